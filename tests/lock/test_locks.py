"""The lock: it matches pyproject.toml, names no index, and `make` says when it is out of date."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from corral_lock import locks
from corral_lock.locks import DEVELOP, LOCKS, REPOSITORY, RUN, LockError

TEXTS = {name: (REPOSITORY / name).read_text() for name in LOCKS}
BLOCKS = {name: locks.blocks(text) for name, text in TEXTS.items()}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Take along what set-up reads of a checkout."""
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", *LOCKS):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def test_the_locks_match_pyproject() -> None:
    locks.check()


@pytest.mark.parametrize(("name", "extras"), [(RUN, ()), (DEVELOP, tuple(PROJECT["optional-dependencies"]))])
def test_a_lock_has_a_version_that_pyproject_admits_of_everything_it_asks_for(name: str, extras: tuple[str, ...]) -> None:
    asked = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, asked):
        assert locks.version(BLOCKS[name][canonicalize_name(requirement.name)]) in requirement.specifier, requirement


def test_both_locks_are_of_one_resolution() -> None:
    running, developing = ({package: (locks.version(block), hashes(block)) for package, block in BLOCKS[name].items()} for name in LOCKS)
    assert running.items() < developing.items()


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes_and_no_index_is_named(name: str) -> None:
    assert all(hashes(block) for block in BLOCKS[name].values())
    assert "//" not in TEXTS[name] and "index" not in TEXTS[name].replace("importlib-metadata", "")
    lines = [line for line in TEXTS[name].splitlines() if not line.startswith("#")]
    assert len(lines) == sum(len(block.splitlines()) for block in BLOCKS[name].values()), "a line that belongs to no package"


def hashes(block: str) -> frozenset[str]:
    return frozenset(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))


def test_no_package_lock_of_npm_names_an_address_to_fetch_from() -> None:
    found = [path for path in REPOSITORY.glob("*/**/package-lock.json") if "node_modules" not in path.parts]
    assert found
    for path in found:
        text = path.read_text()
        assert '"resolved"' not in text and '"integrity"' in text, path


@pytest.mark.parametrize("change", ["a dependency", "a bound", "the lowest Python", "a tool"])
def test_a_pyproject_that_asks_for_something_else_does_not_match(copied: Path, change: str) -> None:
    locks.check(copied)
    changes = {
        "a dependency": ("dependencies = [\n", 'dependencies = [\n    "attrs",\n'),
        "a bound": ('"click>=', '"click>1,>='),
        "the lowest Python": ('requires-python = ">=3.11"', 'requires-python = ">=3.12"'),
        "a tool": ("dev = [\n", 'dev = [\n    "attrs",\n'),
    }
    pyproject = copied / "pyproject.toml"
    text = pyproject.read_text()
    pyproject.write_text(text.replace(*changes[change], 1))
    assert pyproject.read_text() != text
    with pytest.raises(LockError, match=r"does not match pyproject\.toml: `make lock` renews it"):
        locks.check(copied)


def test_a_pyproject_with_another_description_still_matches(copied: Path) -> None:
    pyproject = copied / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('description = "', 'description = "Really: '))
    locks.check(copied)


@pytest.mark.runc  # what set-up looks for first is there where containers can run
def test_make_setup_stops_and_names_the_command_where_the_lock_does_not_match_or_is_missing(copied: Path) -> None:
    pyproject = copied / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("dependencies = [\n", 'dependencies = [\n    "attrs",\n', 1))
    assert set_up(copied) == (1, f"lock: {RUN} does not match pyproject.toml: `make lock` renews it\n")
    (copied / RUN).unlink()
    assert set_up(copied) == (1, f"lock: {RUN} is missing: `make lock` makes it\n")
    assert not (copied / ".venv").exists()


def set_up(checkout: Path) -> tuple[int, str]:
    done = subprocess.run(
        [checkout / "deploy" / "setup.sh"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=50, check=False
    )
    return done.returncode, done.stderr
