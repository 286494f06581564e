"""The README is typed as it stands, from its first command to its last, and shows what it says it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from corral_testkit.readme import ANYTHING, Session, Terminal, agrees, blocks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ANOTHER_TERMINAL = "in another terminal"


@pytest.mark.runc
@pytest.mark.timeout(120)
def test_every_command_shows_what_the_readme_shows() -> None:
    running: list[tuple[Terminal, list[str]]] = []
    with Session() as session:
        for block in blocks(README):
            if block.note.startswith("file: "):
                (session.directory / block.note.removeprefix("file: ")).write_text(block.text)
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


def test_every_block_is_run_or_says_where_it_is() -> None:
    for block in blocks(README):
        known = block.note == ANOTHER_TERMINAL or block.note.startswith(("file: ", "elsewhere: ")) or not block.note
        assert known, f"line {block.line}: {block.note}"
        assert block.language in ("console", "python"), f"line {block.line}: {block.language}"
        assert block.language == "console" or block.note.startswith("file: "), f"line {block.line}: nothing runs this"


def test_every_path_and_every_test_the_readme_names_exists() -> None:
    named = [*re.findall(r"\]\(([^)]+)\)", README), *re.findall(r"`(tests/[^`]+)`", README)]
    assert named
    for path, _, test in (name.partition("::") for name in named):
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_commands_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:`|\$ )make ([a-z-]+)", README)
    assert {"demo", "test", "setup"} <= set(targets)
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


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
