"""The baseline: runc driven from this process by posix_spawn and pidfds, with nothing in between.

It is the least that any manager has to do: create, start, wait for the process itself (not for a poll interval), delete.
"""

import contextlib
import ctypes
import itertools
import os
import select
import shutil
import subprocess
from pathlib import Path

from kit.bundles import make_bundle, runc

PR_SET_CHILD_SUBREAPER = 36
WAIT_MS_MAX = 60_000
CGROUP = "/corral-bench"


class RuncError(Exception):
    """runc failed, or a process did not end in time."""


def become_subreaper() -> None:
    """Containers' processes become our children when runc has ended. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def wait_for(pid: int) -> int:
    """A child's exit status, as soon as it has ended. Raises RuncError after a minute."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(WAIT_MS_MAX):
            raise RuncError(f"process {pid} has not ended after {WAIT_MS_MAX} ms")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)


class BareRunc:
    """Containers under a --root of their own. Threads may share it."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        """Raises MissingError."""
        self._runc = runc()
        self._directory, self._rootfs = directory, rootfs
        self._root = directory / "runc"
        self._root.mkdir(parents=True)
        self._numbers = itertools.count(1)
        self._environment = dict(os.environ)

    def bundle(self, name: str, args: list[str]) -> Path:
        """A bundle with a cgroup of its own, made before anything is timed."""
        return make_bundle(self._directory / f"bundle-{name}", self._rootfs, args, cgroup=f"{CGROUP}/{name}")

    def spawn(self, *arguments: str, stdout: int | None = None, stdin: int | None = None) -> int:
        """runc with these arguments; what is not given is /dev/null. Returns its pid. Raises OSError."""
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
        for target, source, mode in ((0, stdin, os.O_RDONLY), (1, stdout, os.O_WRONLY), (2, None, os.O_WRONLY)):
            if source is None:
                actions.append((os.POSIX_SPAWN_OPEN, target, "/dev/null", mode, 0))
            else:
                actions.append((os.POSIX_SPAWN_DUP2, source, target))
        return os.posix_spawn(self._runc, [self._runc, "--root", str(self._root), *arguments], self._environment, file_actions=actions)

    def call(self, *arguments: str) -> None:
        """runc to its end. Raises RuncError."""
        status = wait_for(self.spawn(*arguments))
        if status != 0:
            raise RuncError(f"runc {' '.join(arguments)} ended with {status}")

    def create(self, name: str, bundle: Path, stdout: int | None = None) -> int:
        """Returns the pid of init, which is our child (see become_subreaper). Raises RuncError."""
        pid_file = bundle / f"{name}.pid"
        status = wait_for(self.spawn("create", "--bundle", str(bundle), "--pid-file", str(pid_file), name, stdout=stdout))
        if status != 0:
            raise RuncError(f"runc create {name} ended with {status}")
        return int(pid_file.read_text())

    def run_to_end(self, bundle: Path) -> int:
        """create, start, wait, delete; the exit status. Raises RuncError."""
        name = f"bare{next(self._numbers)}"
        pid = self.create(name, bundle)
        self.call("start", name)
        status = wait_for(pid)
        self.call("delete", name)
        return status

    def start(self, name: str, args: list[str]) -> int:
        """A container that stays; the pid of its init. Raises RuncError."""
        pid = self.create(name, self.bundle(name, args))
        self.call("start", name)
        return pid

    def exec(self, name: str, *args: str) -> int:
        """`runc exec` to its end; its status. Raises RuncError."""
        return wait_for(self.spawn("exec", name, *args))

    def close(self) -> None:
        """Kills and deletes what is left."""
        for directory in self._root.iterdir():
            subprocess.run([self._runc, "--root", str(self._root), "delete", "--force", directory.name], check=False, capture_output=True)
        mounts = Path("/sys/fs/cgroup")
        for cgroup in [*mounts.glob(f"*{CGROUP}"), mounts / CGROUP.lstrip("/")]:
            with contextlib.suppress(OSError):  # another run's container is still in it, or it was never there
                cgroup.rmdir()
        shutil.rmtree(self._directory, ignore_errors=True)
