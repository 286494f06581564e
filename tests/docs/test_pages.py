"""The generated pages are those the code and the tests make, and every link leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral_docs import changelog, commands, guarantees, links, rooms, troubleshooting
from corral_docs.__main__ import problems
from corral_docs.sections import filled


def test_no_page_is_stale_and_no_link_is_broken() -> None:
    assert problems() == []


def test_a_link_to_a_missing_file_or_heading_is_reported(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A title, and more\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md#a-title-and-more) [b](other.md#twice-1) [c](#here) [d](https://example.org/none) `[e](none.md)`\n"
        "```console\n$ echo [f](none.md)\n```\n[g](missing.md) [h](other.md#missing) [i](#missing)\n"
    )
    found = [line.rpartition(" ")[2] for line in links.broken([page])]
    assert found == ["missing.md", "other.md#missing", "#missing"]
    page.write_text("# Here\n<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n")
    assert [line.partition(": ")[2] for line in links.broken([page])] == ["marks of a merge"]


def test_marked_tests_are_found_without_importing_them(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "inner").mkdir(parents=True)
    (tests / "inner" / "test_it.py").write_text(
        "import missing_module\n@pytest.mark.guarantee(3, 5)\nasync def test_it_holds() -> None: ...\ndef test_other(): ...\n"
    )
    found = guarantees.marked_tests(tests)
    assert {number: [test.sentence for test in marked] for number, marked in found.items()} == {3: ["it holds"], 5: ["it holds"]}
    assert found[3][0].path == Path("tests/inner/test_it.py")


def test_a_promise_without_a_test_and_a_mark_without_a_promise_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = guarantees.marked_tests()
    monkeypatch.setattr(guarantees, "marked_tests", lambda: {**marked, 1: [], 99: marked[1]})
    monkeypatch.setattr(guarantees, "promises", lambda: [{"number": 1, "promise": "A.", "again": "make a"}, {"number": 3, "promise": "B."}])
    found = guarantees.problems()
    assert "guarantees.toml: the numbers are [1, 3]" in found
    assert "guarantee 3: `again` names no command" in found
    assert any(line.endswith("no guarantee 99") for line in found)


def test_an_error_code_without_cause_and_action_and_an_entry_without_a_code_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    known = troubleshooting.entries()
    changed = {**{code: entry for code, entry in known.items() if code != "guest_busy"}, "no_such_code": {"cause": "a", "action": "b"}}
    monkeypatch.setattr(troubleshooting, "entries", lambda: changed)
    assert troubleshooting.problems() == [
        "troubleshooting.toml: no cause and action for guest_busy",
        "troubleshooting.toml: no_such_code is no error code",
    ]


@pytest.mark.parametrize("part", ["limits", "missing"])
def test_a_generated_part_replaces_what_stands_between_its_marks(part: str) -> None:
    page = "a\n<!-- begin limits: from x -->\nold\n<!-- end limits -->\nb\n"
    if part == "limits":
        assert filled(page, part, "new\n") == "a\n<!-- begin limits: from x -->\nnew\n<!-- end limits -->\nb\n"
    else:
        with pytest.raises(ValueError, match="missing"):
            filled(page, part, "new\n")


def test_every_room_of_an_import_contract_says_what_it_is_for() -> None:
    assert [line for line in rooms.lists().splitlines() if line.startswith("- ") and line.rstrip().endswith(":")] == []


def test_a_command_in_passing_that_does_not_exist_is_reported() -> None:
    page = (
        "`corral run --rm -it x`, `corral runs`, `seq 3 | corral batch run --no-such -- --any`, `corral keys new --broker`\n"
        "`corral logs -f NAME --tails 3`, `corral rm -f x`, `corral` and `corral --context a ps`\n```text\n`corral nothing`\n```\n"
    )
    found = [line.rpartition(": ")[2] for line in commands.wrong_in(page)]
    assert found == ["no command runs", "no option --no-such", "no option --tails"]


def test_an_entry_of_the_changelog_that_is_too_long_or_under_no_part_is_reported() -> None:
    long = " ".join(f"word{number}" for number in range(26))
    found = changelog.wrong_in(f"# Changelog\n\n## [Unreleased]\n\n- Lost.\n\n### Library\n\n- Short.\n- {long}\n\nText.\n")
    assert [line.partition(":")[0] for line in found] == ["under no part", "26 words, 25 at most"]
