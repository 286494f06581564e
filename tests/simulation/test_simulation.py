"""A few hundred seeds without a finding, the same run twice from the same seed, and breaks that are found out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SEEDS = int(os.environ.get("CORRAL_SIMULATION_SEEDS", "60"))
QUICK_BREAKS = ("g05-drop-without-gap", "g09-before-not-checked", "g13-no-dedupe-after-restart")


def run(*arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "run.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [1, 1 + SEEDS // 2])
def test_no_seed_shows_a_broken_promise(first: int) -> None:
    done = run("--first", str(first), "--seeds", str(SEEDS // 2), "--jobs", "1")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.timeout(120)
def test_the_same_seed_is_the_same_run_in_this_process_and_in_another() -> None:
    first, second = run("--seed", "15", timeout_s=110), run("--seed", "15", timeout_s=110)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == second.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICK_BREAKS)
def test_a_break_of_one_line_is_found_out(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "bite.py"), "--only", name, "--seeds", "200", "--jobs", "1"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("patch", sorted((HERE / "breaks").glob("*.patch")), ids=lambda patch: patch.stem)
def test_every_break_still_applies(patch: Path) -> None:
    root = HERE.parent.parent
    done = subprocess.run(
        ["patch", "--batch", "--forward", "--dry-run", "--fuzz=2", "-p1", "-i", str(patch)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, f"{patch.name} must be made anew: {done.stdout}"
