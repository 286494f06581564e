"""A wall clock that tests can set: `python -m corral_testkit.skewed FILE MODULE ARGUMENTS` runs a module under it.

The kernel has no wall clock of its own for a group of processes (time namespaces cover the monotonic clocks alone), and setting the
machine's would hit everybody on it. So the module reads `time.time` and `time.time_ns` with the offset that stands in FILE at that moment.
Broker and worker decide by these alone; shims only stamp with the wall clock, and theirs stays as it is.
"""

from __future__ import annotations

import mmap
import os
import runpy
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("=q")


class SkewFile:
    """The offset of everybody who runs under this file; created at 0."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_OFFSET.pack(0))

    def set(self, seconds: float) -> None:
        """The wall clock jumps to so far from the machine's."""
        with self.path.open("r+b") as file:
            file.write(_OFFSET.pack(int(seconds * 1e9)))


def _skew(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    shared = mmap.mmap(fd, _OFFSET.size, access=mmap.ACCESS_READ)
    os.close(fd)
    true_ns = time.time_ns

    def time_ns() -> int:
        return true_ns() + int(_OFFSET.unpack(shared[:])[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


if __name__ == "__main__":
    _, path, module, *arguments = sys.argv
    _skew(path)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
