"""A run's directory: plan copy, items, targets, joblog and results, and the locks by which two runners cannot meet.

DIR/plan.yaml (or .jsonl)   as it was given          DIR/targets/STEP.jsonl   fixed when the step begins
DIR/items/STEP.json         read when the run began   DIR/results/STEP/N.json  one per target; N.out, N.err where it wrote
DIR/joblog.jsonl            what was done             DIR/lock                 held by the runner at work
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from corral.batch.checking import read_plan
from corral.batch.plan import Plan
from corral.batch.targets import Target
from corral.placing import placed

BASE = Path("corral-runs")
LAST = "last"


class RunDirError(Exception):
    """Not the directory of a run, or one that another runner is at work in."""


class RunDir:
    """An existing directory of a run."""

    def __init__(self, path: Path) -> None:
        """Raises RunDirError."""
        self.path = path
        plans = sorted(path.glob("plan.*"))
        if len(plans) != 1:
            raise RunDirError(f"{path} is not the directory of a run: it has no plan in it")
        self._plan = plans[0]
        self.joblog = path / "joblog.jsonl"

    def plan(self) -> Plan:
        """Raises PlanError, OSError."""
        return read_plan(self._plan.read_text(), json_lines=self._plan.suffix == ".jsonl")

    def items(self, step: str) -> list[str] | None:
        """None for a step without items."""
        path = self.path / "items" / f"{step}.json"
        return msgspec.json.decode(path.read_bytes(), type=list[str]) if path.exists() else None

    def targets(self, step: str) -> list[Target] | None:
        """None before the step has begun. Raises msgspec.DecodeError."""
        path = self.path / "targets" / f"{step}.jsonl"
        return msgspec.json.Decoder(Target).decode_lines(path.read_bytes()) if path.exists() else None

    def fix_targets(self, step: str, targets: Sequence[Target]) -> None:
        """Written whole and synced, or not at all."""
        _write_whole(self.path / "targets" / f"{step}.jsonl", msgspec.json.Encoder().encode_lines(targets))

    def result_path(self, step: str, number: int, suffix: str) -> Path:
        """results/STEP/NUMBER.SUFFIX; its directory is there."""
        directory = self.path / "results" / step
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{number}.{suffix}"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else runs or resumes it meanwhile. Raises RunDirError."""
        with locked(self.path / "lock", f"{self.path} is being run"):
            yield


def make_run_dir(base: Path, name: str, plan: bytes, suffix: str, items: dict[str, list[str]], *, exact: Path | None = None) -> RunDir:
    """BASE/NAME-TIME-ID (or `exact`, which must not exist or be empty), with the plan and the items in it; BASE/last points to it.

    Raises RunDirError, OSError.
    """
    path = exact or base / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(3)}"
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise RunDirError(f"{path} is not empty: each run needs an empty directory (continue an old one: corral batch resume {path})")
    for directory in ("items", "targets", "results"):
        (path / directory).mkdir()
    for step, values in items.items():
        _write_whole(path / "items" / f"{step}.json", msgspec.json.encode(values))
    _write_whole(path / f"plan{suffix}", plan)
    _point_last(path)
    return RunDir(path)


def find_run_dir(text: str, base: Path) -> RunDir:
    """A directory, or `last`: the one made last below `base`. Raises RunDirError."""
    path = Path(text)
    if text == LAST and not path.is_dir():
        path = base / LAST
        if not path.exists():
            raise RunDirError(f"there is no last run below {base}")
        path = base / path.readlink()
    if not path.is_dir():
        raise RunDirError(f"there is no directory {path}")
    return RunDir(path)


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Holds the file, which stays; it names the holder's pid. Raises RunDirError with `busy` where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise RunDirError(f"{busy} (pid {owner or 'unknown'})") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _write_whole(path: Path, data: bytes) -> None:
    with placed(path, sync=True) as file:
        file.write(data)


def _point_last(path: Path) -> None:
    """Beside the run; replaced at once. Where something else stands there, a link of somebody else's too, it is left alone."""
    link = path.parent / LAST
    if link.is_symlink():
        known = link.readlink()
        ours = known.name == str(known) and (not link.exists() or any(link.glob("plan.*")))
        if not ours:
            return
    elif link.exists():
        return
    fresh = path.parent / f".{LAST}-{secrets.token_hex(4)}"
    fresh.symlink_to(path.name)
    fresh.replace(link)


def as_json(value: Any) -> bytes:
    """For result files: one object, indented, with its line break."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
