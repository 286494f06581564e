"""The directory of one run, and the end of what a run that was killed has left: its processes, and gigabytes."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from kit.fleet import daemons_below, keepers_below

PREFIX = "cb-"
"""Short, since sockets lie below it; then the run's pid."""


def temporary_directory() -> "tempfile.TemporaryDirectory[str]":
    """Private, on the machine's ordinary temporary disk; removed at the end. What a run that was killed has left is removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}[0-9]*-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            _remove_left(left)
    return tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)


def _remove_left(directory: Path) -> None:
    """The pid in its name is nobody's any more."""
    pids = [*daemons_below(directory), *keepers_below(directory)]
    print(f"a run that was killed has left {directory} and {len(pids)} processes: they are removed", file=sys.stderr)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)
    try:
        shutil.rmtree(directory)
    except OSError as why:  # one that was killed just now may still have written: the next run is told of it again
        print(f"not all of {directory} could be removed: {why}", file=sys.stderr)
