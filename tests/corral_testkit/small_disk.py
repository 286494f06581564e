"""A disk that can be full: a tmpfs whose size is brought down to what is used, and up again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PAGE_BYTES = 4096
TRIES = 20


class SmallDisk:
    """Mounted while the context lasts. `fill` leaves no page free, `free` gives back what it was made with."""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self.directory, self._size_bytes = directory, size_bytes

    def __enter__(self) -> SmallDisk:
        self.directory.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self._size_bytes},mode=0700", "corral-test", self.directory], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.directory], check=True)
        self.directory.rmdir()

    @property
    def used_bytes(self) -> int:
        found = os.statvfs(self.directory)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def fill(self, spare_bytes: int = 0) -> None:
        """From now on there are `spare_bytes` left, whoever writes."""
        for _ in range(TRIES):  # it is written to meanwhile, and the kernel refuses a size below what is used
            if self._remount(self.used_bytes + spare_bytes):
                return
        raise AssertionError(f"{self.directory} could not be filled")

    def free(self) -> None:
        """Room again."""
        assert self._remount(self._size_bytes), f"{self.directory} could not be freed"

    def _remount(self, size_bytes: int) -> bool:
        size = max(size_bytes, PAGE_BYTES)
        done = subprocess.run(["mount", "-o", f"remount,size={size}", self.directory], capture_output=True, check=False)
        return done.returncode == 0
