"""What the site has from outside docs/, and its links: a hook of mkdocs (mkdocs.yml names it).

The pages link to each other as files of the repository, which works wherever the repository is shown. Here those links become links between
pages of the site; a link to a file that is no page becomes plain text.
"""

import os.path
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/growth.md": "benchmarks/growth.md",
    "benchmarks/last-run.md": "benchmarks/last-run.md",
    "deploy/vm/README.md": "vm.md",
    "schemas/PROTOCOL.md": "protocol/index.md",
}
"""File of the repository → page of the site."""
FOLDERS = {"schemas/reference": "protocol", "benchmarks/findings": "benchmarks/findings"}
"""Folder of the repository, all of whose pages are pages of the site → their folder there."""
_FENCE = re.compile(r"(^(?:```+|~~~+).*?^(?:```+|~~~+)$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"`[^`\n]*`|(?P<image>!?)\[(?P<label>(?:`[^`\n]*`|[^]`])*)\]\((?P<target>[^()\s]+)\)")
"""A link, or code in a line, which is none."""
_OTHER_TERMINAL = re.compile(r"^<!-- in another terminal -->\n", re.MULTILINE)


def sources() -> dict[str, str]:
    """Return every page: file of the repository → its place in the site."""
    found = {name: place for name, place in ELSEWHERE.items() if (ROOT / name).exists()}
    for folder, place in FOLDERS.items():
        found |= {f"{folder}/{path.name}": f"{place}/{path.name}" for path in sorted((ROOT / folder).glob("*.md"))}
    return found | {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page into the navigation that not every checkout has."""
    if config.nav and "CONTRIBUTING.md" in sources():
        config.nav.append({"Contributing": ELSEWHERE["CONTRIBUTING.md"]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and the pictures that pages show."""
    pages = sources()
    for name, place in pages.items():
        if not name.startswith("docs/"):
            files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    for picture in sorted({picture for name in pages for picture in _pictures(name)}):
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def _pictures(name: str) -> list[str]:
    targets = [match["target"] for match in _LINK.finditer((ROOT / name).read_text()) if match["image"]]
    return [_of_repository(name, target) for target in targets if "://" not in target]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the repository links of the site."""
    places = sources()
    names = {place: name for name, place in places.items()}
    name = names[page.file.src_uri]
    parts = _FENCE.split(_OTHER_TERMINAL.sub("In a separate terminal:\n\n", markdown))
    return "".join(part if index % 2 else linked(part, name, page.file.src_uri, places) for index, part in enumerate(parts))


def linked(text: str, name: str, place: str, places: dict[str, str]) -> str:
    """Return a text with its links as the site has them; `name`: its file in the repository, `place`: its page."""

    def link(match: re.Match[str]) -> str:
        if not match["target"]:
            return match[0]
        target, _, anchor = match["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        wanted = _of_repository(name, target)
        if match["image"]:
            return f"![{match['label']}]({posixpath.relpath(wanted, posixpath.dirname(place) or '.')})"
        if wanted not in places:
            return match["label"]
        there = posixpath.relpath(places[wanted], posixpath.dirname(place) or ".")
        return f"[{match['label']}]({there}{'#' + anchor if anchor else ''})"

    return _LINK.sub(link, text)


def _of_repository(name: str, target: str) -> str:
    return os.path.normpath(posixpath.join(posixpath.dirname(name), target))
