"""Hearing of OOM kills in a container as they happen, on cgroup v1 and v2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from corral_worker.shim.base.loop import PRIORITY, READABLE, Loop
from corral_worker.shim.cgroup.cgroup import Cgroup

# v1 tells when memory runs out, a moment before the kill is counted.
COUNT_LATER_S = 0.05


class OomWatch:
    """Calls with the number of OOM kills whenever it has grown. Best effort: each reap looks, too."""

    def __init__(self, loop: Loop, cgroup: Cgroup, on_oom: Callable[[int], None]) -> None:
        self._loop = loop
        self._cgroup = cgroup
        self._on_oom = on_oom
        self._last = 0  # a cgroup begins with none
        self._fds: list[int] = []
        if cgroup.memory is None:
            return
        with contextlib.suppress(OSError):  # no memory controller here
            if (cgroup.memory / "memory.oom_control").exists():
                self._watch_v1(str(cgroup.memory))
            elif (cgroup.memory / "memory.events").exists():
                self._fds.append(os.open(cgroup.memory / "memory.events", os.O_RDONLY | os.O_CLOEXEC))
                os.read(self._fds[0], 4096)  # what was read is what later changes are told against
                loop.watch(self._fds[0], PRIORITY, self._event_v2)

    def look(self) -> int:
        """Count now; how many kills there were so far."""
        count = self._cgroup.oom_kills()
        if count > self._last:
            self._last = count
            self._on_oom(count)
        return max(count, self._last)

    def close(self) -> None:
        """Watch no more."""
        for fd in self._fds:
            self._loop.unwatch(fd)
            os.close(fd)
        self._fds.clear()

    def _watch_v1(self, directory: str) -> None:
        event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        request = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(request, f"{event} {control}".encode())
        finally:
            os.close(request)
            os.close(control)
        self._fds.append(event)
        self._loop.watch(event, READABLE, self._event_v1)

    def _event_v1(self, _: int) -> None:
        if not self._cgroup.exists():  # removing a cgroup makes one last event of its own
            self.close()
            return
        os.eventfd_read(self._fds[0])
        self.look()
        self._loop.later(COUNT_LATER_S, self._look_later)

    def _look_later(self) -> None:
        self.look()

    def _event_v2(self, _: int) -> None:
        try:
            os.pread(self._fds[0], 4096, 0)
        except OSError:  # the cgroup was removed
            self.close()
            return
        self.look()
