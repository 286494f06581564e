"""Packages of another Debian come from this machine's own mirrors, in whatever form apt was told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral_vm import suites
from corral_vm.shell import BuildError

DEB822 = """Types: deb
# a comment
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.invalid/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """# deb http://mirror.invalid/old bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.invalid/debian bookworm main contrib
deb http://mirror.invalid/debian-security bookworm-security main
deb-src http://mirror.invalid/debian bookworm main
deb http://elsewhere.invalid/tools stable main
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Debian 12, whose apt was told nothing yet."""
    monkeypatch.setattr(suites, "SOURCES", (tmp_path / "debian.sources", tmp_path / "sources.list"))
    monkeypatch.setattr(suites, "_own_suite", lambda: "bookworm")
    return tmp_path


def of(text: str, field: str) -> list[str]:
    return [line.partition(": ")[2] for line in text.splitlines() if line.startswith(f"{field}: ")]


@pytest.mark.parametrize(
    ("file", "said", "suites_there"), [("debian.sources", DEB822, "trixie trixie-updates"), ("sources.list", ONE_LINE, "trixie")]
)
def test_another_release_comes_from_the_same_mirrors_by_the_same_key(told: Path, file: str, said: str, suites_there: str) -> None:
    (told / file).write_text(said)
    found = suites.sources_for("trixie")
    assert of(found, "URIs") == ["http://mirror.invalid/debian", "http://mirror.invalid/debian-security"]
    assert of(found, "Suites") == [suites_there, "trixie-security"]
    assert of(found, "Signed-By") == ["/usr/share/keyrings/debian-archive-keyring.gpg"]
    assert of(suites.sources_for("sid"), "Suites") == ["sid"]


def test_a_machine_without_a_mirror_of_its_own_release_says_so(told: Path) -> None:
    (told / "sources.list").write_text("deb http://elsewhere.invalid/tools stable main\n")
    with pytest.raises(BuildError, match=r"no mirror of bookworm is named in .*sources.list"):
        suites.sources_for("trixie")


def test_a_suite_that_is_not_there_is_said_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUITE", "bookworm potato")
    with pytest.raises(BuildError, match="SUITE=potato: there are bookworm, trixie, sid"):
        suites.chosen_suites()
