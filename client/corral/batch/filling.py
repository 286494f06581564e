"""Placeholders in arguments: `{}` the item, `{n}` the target's number, `{guest}`, `{label.NAME}`; `{{}}` is a `{}` that stays.

Nothing else in braces is touched: scripts are full of them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\{\{\}\}|\{\}|\{n\}|\{guest\}|\{label\.([A-Za-z0-9_./-]+)\}")


class FillError(Exception):
    """A placeholder has nothing to stand for."""


def placeholders(text: str) -> list[str]:
    """Those in the text, `{{}}` left out."""
    return [match[0] for match in _PLACEHOLDER.finditer(text) if match[0] != "{{}}"]


def labels_wanted(value: Any) -> set[str]:
    """NAME of every `{label.NAME}` in a value."""
    return {match[1] for text in _texts(value) for match in _PLACEHOLDER.finditer(text) if match[1]}


def fill(value: Any, *, item: str | None, number: int, guest: str, labels: Mapping[str, str]) -> Any:
    """The value with every text in it filled in (keys are left alone). Raises FillError."""

    def found(match: re.Match[str]) -> str:
        if match[0] == "{{}}":
            return "{}"
        if match[0] == "{guest}":
            return guest
        if match[0] == "{n}":
            return str(number)
        if match[1]:
            if match[1] not in labels:
                raise FillError(f"guest {guest} has no label {match[1]!r}")
            return labels[match[1]]
        if item is None:
            raise FillError("`{}` stands for an item, and there is none")
        return item

    if isinstance(value, str):
        return _PLACEHOLDER.sub(found, value)
    if isinstance(value, dict):
        return {key: fill(inner, item=item, number=number, guest=guest, labels=labels) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, item=item, number=number, guest=guest, labels=labels) for inner in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
