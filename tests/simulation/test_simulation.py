"""A few hundred seeds without a finding, the same run twice from the same seed, and breaks that are found out, shrunk and seen again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from corral_testkit.sim.scenario import SILENT_FROM

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEEDS = int(os.environ.get("CORRAL_SIMULATION_SEEDS", "300"))
SILENT_SEEDS = max(1, SEEDS // 12)
QUICK_BREAKS = ("g05-drop-without-gap", "g09-before-not-checked", "g13-no-dedupe-after-restart")


def run(*arguments: str, timeout_s: float = 290, at: Path = HERE, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    variables = {**os.environ, "PYTHONHASHSEED": "0", **environment}
    return subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=timeout_s, check=False, env=variables)


@pytest.mark.timeout(1200)
def test_no_seed_shows_a_broken_promise() -> None:
    done = run("run.py", "--seeds", str(SEEDS), "--jobs", "2", timeout_s=1190)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert f"{SEEDS} seeds in" in done.stdout


@pytest.mark.guarantee(25)
@pytest.mark.timeout(600)
def test_no_silence_of_hours_costs_a_reader_anything() -> None:
    done = run("run.py", "--first", str(SILENT_FROM), "--seeds", str(SILENT_SEEDS), "--jobs", "2", timeout_s=590)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert f"{SILENT_SEEDS} seeds in" in done.stdout


@pytest.mark.timeout(120)
def test_the_same_seed_is_the_same_run_in_this_process_and_in_another() -> None:
    first, second = run("run.py", "--seed", "15", timeout_s=110), run("run.py", "--seed", "15", timeout_s=110)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == second.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICK_BREAKS)
def test_a_break_of_one_line_is_found_out(name: str) -> None:
    done = run("bite.py", "--only", name, "--seeds", "200")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_what_is_found_is_shrunk_and_happens_again_by_the_command_that_is_printed(tmp_path: Path) -> None:
    packages = ("schemas", "broker", "worker", "client", "tests")
    patch = HERE / "breaks" / "g04-offset-plus-one.patch"
    make_broken = f"import bite, pathlib; bite.broken_tree(pathlib.Path({str(patch)!r}), pathlib.Path({str(tmp_path)!r}))"
    assert run("-c", make_broken).returncode == 0
    path = os.pathsep.join(str(tmp_path / name) for name in packages)
    done = run("tests/simulation/run.py", "--seeds", "1", "--jobs", "1", "--shrink-seconds", "10", at=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    again = re.search(r"are enough; again with\n +python (.*)", done.stdout)
    assert again is not None, done.stdout + done.stderr
    seen = run(*shlex.split(again[1]), at=tmp_path, PYTHONPATH=path)
    assert seen.returncode == 1
    assert "G5" in seen.stdout or "G4" in seen.stdout
    assert "went another way" not in seen.stdout


@pytest.mark.parametrize("patch", sorted((HERE / "breaks").glob("*.patch")), ids=lambda patch: patch.stem)
def test_every_break_still_applies(patch: Path) -> None:
    done = subprocess.run(
        ["patch", "--batch", "--forward", "--dry-run", "--fuzz=2", "-p1", "-i", str(patch)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, f"{patch.name} must be made anew: {done.stdout}"


def test_every_break_is_in_the_table() -> None:
    table = (HERE / "README.md").read_text()
    names = [patch.stem.partition("-")[2].replace("-", " ") for patch in (HERE / "breaks").glob("*.patch")]
    missing = [name for name in names if f"| {name} |" not in table]
    assert not missing, f"make bite writes the table; not in it: {missing}"
