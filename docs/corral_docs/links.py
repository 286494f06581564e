"""Links between Markdown files of this repository, and from them to other files."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from corral_docs.places import ROOT

_FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\((?P<target>[^()\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<text>.+?)\s*#*$", re.MULTILINE)
_ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)"')


def markdown_files() -> list[Path]:
    """Return every Markdown file that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return sorted(ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists())


def links(text: str) -> Iterator[str]:
    """Yield the targets of the links in a Markdown text, those in code left out."""
    for match in _LINK.finditer(_CODE.sub("", _FENCE.sub("", text))):
        yield match["target"]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub and the site make of a text's headings."""
    found: set[str] = set(_ANCHOR.findall(text))
    for match in _HEADING.finditer(_FENCE.sub("", text)):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", match["text"]).lower()).strip().replace(" ", "-")
        number = 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found


def broken(files: list[Path] | None = None) -> list[str]:
    """Return a line for each link to a file, or to a heading, that is not there (the web is not asked), and for marks of a merge."""
    wrong = []
    for path in files if files is not None else markdown_files():
        if re.search(r"^(<<<<<<<|>>>>>>>) ", path.read_text(), re.MULTILINE):
            wrong.append(f"{_shown(path)}: marks of a merge")
        for target in links(path.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = path if not name else path.parent / name
            if not there.exists():
                wrong.append(f"{_shown(path)}: no file {target}")
            elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text()):
                wrong.append(f"{_shown(path)}: no heading {target}")
    return wrong


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
