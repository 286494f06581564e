"""The README and the pages in docs/ are typed as they stand, each from its first command to its last, and show what they say they show."""

from __future__ import annotations

import fcntl
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.readme import ANYTHING, BUSYBOX, Session, Terminal, agrees, blocks

ROOT = Path(__file__).parents[2]
ANOTHER_TERMINAL = "in another terminal"
SHOWN_ONLY = ("text", "toml", "yaml", "ini")
"""Languages of blocks that nothing runs unless they are files of a session."""
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def typed(page: Path) -> bool:
    """Whether a page has commands that this test types."""
    return any(block.language == "console" and not block.note.startswith("elsewhere: ") for block in blocks(page.read_text()))


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """Wait until no other run of this test is on the machine: their guests have the same directories, their brokers the same ports."""
    with Path(tempfile.gettempdir(), "corral-typed-pages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.runc
@pytest.mark.usefixtures("alone")
@pytest.mark.timeout(180, func_only=True)
@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if typed(page)])
def test_every_command_shows_what_the_page_shows(page: Path) -> None:
    text = page.read_text()
    running: list[tuple[Terminal, list[str]]] = []
    with Session() as session:
        if "/srv/busybox" in text and BUSYBOX[0] not in text:
            session.run(BUSYBOX)
        for block in blocks(text):
            if block.note.startswith("file: "):
                path = session.directory / block.note.removeprefix("file: ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.note == ANOTHER_TERMINAL:
                ((command, shown),) = block.commands
                terminal = session.start(command)
                terminal.wait_for(shown[: shown.index(ANYTHING)] if ANYTHING in shown else shown)
                running.append((terminal, shown))
            elif block.language == "console" and not block.note:
                expected = block.commands
                for (command, wanted), shown in zip(expected, session.run([command for command, _ in expected]), strict=True):
                    assert agrees(wanted, shown), f"line {block.line}: {command}\n" + "\n".join(shown)
        for terminal, shown in running:
            terminal.wait_for(shown)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_every_block_is_run_or_says_where_it_is(page: Path) -> None:
    for block in blocks(page.read_text()):
        known = block.note == ANOTHER_TERMINAL or block.note.startswith(("file: ", "elsewhere: ")) or not block.note
        assert known, f"line {block.line}: {block.note}"
        assert block.language in ("console", "python", *SHOWN_ONLY), f"line {block.line}: {block.language}"
        assert block.language != "python" or block.note.startswith(("file: ", "elsewhere: ")), f"line {block.line}: nothing runs this"


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_every_program_a_page_shows_is_run_by_the_page(page: Path) -> None:
    text = page.read_text()
    for block in blocks(text):
        if block.note.startswith("file: "):
            name = block.note.removeprefix("file: ")
            assert any(name in command for other in blocks(text) if other.language == "console" for command, _ in other.commands), name


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_the_commands_of_make_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text())
    assert [target for target in targets if not re.search(rf"^(?:\.PHONY: .*)?\b{target}\b.*:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("expected", "shown", "equal"),
    [
        (["12:00:00.123  g1  pid 7"], ["23:59:59.999 g1 pid 1234"], True),
        (["exited 7"], ["exited 8"], False),
        (["…", "b"], ["a", "a", "b"], True),
        (["a", "…"], ["b"], False),
        (["version …"], ["version 1, and more"], True),
        (["a"], ["a", "a"], False),
    ],
)
def test_lines_agree_but_for_what_differs_each_time(expected: list[str], shown: list[str], equal: bool) -> None:
    assert agrees(expected, shown) is equal
