"""Does the simulation bite? Each patch in breaks/ breaks one promise in one line; how many seeds until that is found?

python tests/simulation/bite.py [--only g13] [--seeds 2000] [--jobs 2] [--write]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BREAKS = Path(__file__).resolve().parent / "breaks"
README = BREAKS.parent / "README.md"
BEGIN, END = "<!-- breaks -->", "<!-- end of breaks -->"
PACKAGES = ("schemas", "broker", "worker", "client")
OF_SILENCE, SILENT_FROM = "g25-", 1_000_000
"""What breaks only in silence is sought in runs of hours, which have the seeds from there on."""
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


def bite(patch: Path, seeds: int, timeout_s: float | None = None) -> Bite:
    """Runs the broken code, one seed after the other, until it is found out. Raises PatchError, subprocess.TimeoutExpired."""
    with tempfile.TemporaryDirectory(prefix="corral-bite-", dir="/dev/shm") as name:
        directory = Path(name)
        broken_tree(patch, directory)
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(str(directory / package) for package in (*PACKAGES, "tests")),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        first = SILENT_FROM if patch.name.startswith(OF_SILENCE) else 1
        command = [sys.executable, str(directory / "tests/simulation/run.py"), "--until-found", f"--seeds={seeds}", "--jobs=1"]
        command.append(f"--first={first}")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    found = _FOUND.search(done.stdout)
    if found is not None:
        return Bite(patch.stem, int(found[1]), int(found[2]), found[3])
    if "not found" in done.stdout:
        return Bite(patch.stem, None, 0, "")
    raise RuntimeError(f"{patch.stem}: the simulation itself failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def chosen(beginnings: str) -> list[Path]:
    """Those whose name begins with one of these, told apart by commas."""
    return sorted(path for path in BREAKS.glob("*.patch") if path.name.startswith(tuple(beginnings.split(","))))


def measured(patches: Sequence[Path], seeds: int, jobs: int) -> Iterator[Bite]:
    """In the order of the patches. Raises PatchError."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda patch: bite(patch, seeds), patches)


def row(one: Bite) -> str:
    """Of the table in README.md."""
    guarantee, _, name = one.name.partition("-")
    finding = one.finding.partition(" ")
    return f"| {name.replace('-', ' ')} | {int(guarantee[1:])} | {one.seeds or 'not found'} | {finding[0]} |"


def write_table(rows: Sequence[str]) -> None:
    """Puts the rows between the marks in README.md."""
    text = README.read_text()
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    head = ["| Break | Guarantee | Seeds needed | Found as |", "|---|---|---|---|"]
    README.write_text(before + mark + "\n" + "\n".join([*head, *rows]) + "\n" + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2_000, help="most to run for one break")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="breaks measured at the same time")
    parser.add_argument("--only", default="", help="breaks whose name begins so (several: g13,g24)")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    asked = parser.parse_args()
    rows, missed = [], 0
    print(f"{'break':<44} seeds  found as")
    try:
        for one in measured(chosen(asked.only), asked.seeds, asked.jobs):
            missed += one.seeds is None
            rows.append(row(one))
            print(f"{one.name:<44} {one.seeds or '-':>5}  {one.finding[:150] or 'NOT FOUND'}", flush=True)
    except PatchError as why:
        sys.exit(str(why))
    if asked.write:
        write_table(rows)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
