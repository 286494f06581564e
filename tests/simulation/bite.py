"""Does the simulation bite? Each patch in breaks/ breaks one promise in one line; how many seeds until that is found?

python tests/simulation/bite.py [--only g13] [--seeds 2000] [--jobs 2]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BREAKS = Path(__file__).resolve().parent / "breaks"
PACKAGES = ("schemas", "broker", "worker", "client")
_FOUND = re.compile(r"found after (\d+) seeds: seed (\d+): (.*)")


class PatchError(Exception):
    """A patch does not apply (any more): the code it breaks has changed, so the patch must be made anew."""


@dataclass
class Bite:
    """What came of one break."""

    name: str
    seeds: int | None
    """How many it took; None: not found."""
    seed: int
    finding: str


def broken_tree(patch: Path, directory: Path) -> None:
    """A copy of the code with the patch applied. Raises PatchError."""
    ignore = shutil.ignore_patterns("__pycache__", "breaks")
    for name in (*PACKAGES, "tests/corral_testkit", "tests/simulation"):
        shutil.copytree(ROOT / name, directory / name, ignore=ignore)
    done = subprocess.run(
        ["patch", "--batch", "--forward", "--fuzz=2", "-p1", "-i", str(patch)], cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PatchError(f"{patch.name} does not apply: {done.stdout.strip()}")


def bite(patch: Path, seeds: int, jobs: int, timeout_s: float | None = None) -> Bite:
    """Runs the broken code until it is found out. Raises PatchError, subprocess.TimeoutExpired."""
    with tempfile.TemporaryDirectory(prefix="corral-bite-", dir="/dev/shm") as name:
        directory = Path(name)
        broken_tree(patch, directory)
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(str(directory / package) for package in (*PACKAGES, "tests")),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, str(directory / "tests/simulation/run.py"), "--until-found", f"--seeds={seeds}", f"--jobs={jobs}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    found = _FOUND.search(done.stdout)
    if found is not None:
        return Bite(patch.stem, int(found[1]), int(found[2]), found[3])
    if "not found" in done.stdout:
        return Bite(patch.stem, None, 0, "")
    raise RuntimeError(f"{patch.stem}: the simulation itself failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2_000, help="most to run for one break")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="breaks whose name begins so")
    asked = parser.parse_args()
    missed = 0
    print(f"{'break':<40} seeds  found as")
    for patch in sorted(BREAKS.glob(f"{asked.only}*.patch")):
        try:
            result = bite(patch, asked.seeds, asked.jobs)
        except PatchError as why:
            missed += 1
            print(why)
            continue
        missed += result.seeds is None
        print(f"{result.name:<40} {result.seeds or '-':>5}  {result.finding[:120] or 'NOT FOUND'}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
