"""Plain text as Markdown."""

import re
from collections.abc import Iterator

_CODE = re.compile(r"(`[^`]*`)")


def escaped(text: str) -> str:
    """Return a text in which Markdown finds nothing but what stands in backticks."""
    parts = _CODE.split(text)
    return "".join(part if part.startswith("`") else re.sub(r"([<>*\[\]|])", r"\\\1", part) for part in parts)


def bullet(term: str, text: str) -> str:
    """Return a list item: a term as code, and what it means."""
    return f"- `{term}`: {escaped(text)}\n" if text else f"- `{term}`\n"


def fence(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n\n"


def paragraphs(help_text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a click help text as Markdown, those after \b as blocks."""
    for part in re.split(r"\n\s*\n", help_text.strip()):
        if part.startswith("\b\n"):
            yield fence(part.removeprefix("\b\n"))
        elif part:
            yield escaped(re.sub(r"\s+", " ", part)) + "\n\n"
