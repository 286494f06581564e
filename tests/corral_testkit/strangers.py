"""Somebody else's process in a cgroup that a bundle names: Corral is to leave it alone, whatever it does there."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from corral_testkit.shim_driver import remove, wait_until
from corral_worker.shim.cgroup.cgroup import hierarchies


class Stranger:
    """A `sleep` in a cgroup, in every hierarchy. With cgroup v2 alone it is one level below, unless `directly`: beside it no container
    could be."""

    def __init__(self, cgroup: str, *, directly: bool = False) -> None:
        mounts = set(hierarchies().values())
        self.directories = [Path(mount + cgroup) for mount in mounts]
        self.process = subprocess.Popen(["sleep", "1000"])
        for directory in self.directories:
            lives = directory / "stranger" if len(mounts) == 1 and not directly else directory
            lives.mkdir(parents=True)
            with contextlib.suppress(FileNotFoundError):  # no cpuset
                _fill_cpuset(directory)
            (lives / "cgroup.procs").write_text(str(self.process.pid))

    @property
    def as_before(self) -> bool:
        """It lives, is not stopped, and is where it was."""
        pid = self.process.pid
        return self.process.poll() is None and all(
            str(pid)
            in "".join((path / "cgroup.procs").read_text() for path in (directory, directory / "stranger") if path.is_dir()).split()
            for directory in self.directories
        )

    def close(self) -> None:
        """Ends it, and removes its cgroups."""
        self.process.kill()
        self.process.wait()
        for directory in self.directories:
            for path in (directory / "stranger", directory, directory.parent):
                if path != Path("/sys/fs/cgroup"):
                    wait_until(lambda path=path: remove(path), f"{path} can be removed")  # type: ignore[misc]


def _fill_cpuset(directory: Path) -> None:
    """Nothing can be in a cpuset of v1 that was given no processor."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (directory / name).read_text().strip():
            if not (directory.parent / name).read_text().strip():
                _fill_cpuset(directory.parent)
            (directory / name).write_text((directory.parent / name).read_text())


@contextlib.contextmanager
def stranger_in(cgroup: str, *, directly: bool = False) -> Iterator[Stranger]:
    """A stranger for a while. The cgroup, which has two levels, must not exist yet."""
    stranger = Stranger(cgroup, directly=directly)
    try:
        yield stranger
    finally:
        stranger.close()


def new_cgroup() -> str:
    """A path that nobody else has."""
    return f"/strangers-{os.urandom(4).hex()}/same"
