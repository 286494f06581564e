"""The container's cgroup, from when it can only be expected: what was killed there for want of memory, and killing all that is there."""

from __future__ import annotations

from collections.abc import Callable

from corral_worker.shim.base.loop import Loop
from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.cgroup.cgroup import Cgroup, find_cgroup
from corral_worker.shim.cgroup.oom import OomWatch

KILL_AGAIN_S = 0.005


class ContainerCgroup:
    """``on_oom`` is called with the number of OOM kills whenever it has grown."""

    def __init__(self, loop: Loop, place: ShimPaths, on_oom: Callable[[int], None]) -> None:
        self.found: Cgroup | None = None  # once created
        self._loop, self._place, self._on_oom = loop, place, on_oom
        self._expected: Cgroup | None = None  # looked up while the runtime creates it
        self._oom: OomWatch | None = None

    def find(self) -> Cgroup:
        """Looked up now."""
        return find_cgroup(self._place.run_dir, self._place.state_dir, self._place.instance)

    def expect(self) -> None:
        """Look it up beforehand, while the runtime is at work."""
        if self.found is None:
            self._expected = self.find()

    def settle(self) -> None:
        """The container was created: this is its cgroup."""
        self.found = self._present()

    def oom_kills(self) -> int:
        """So far; counted now."""
        if self._oom is not None:
            return self._oom.look()
        return 0 if self._expected is None else self._present().oom_kills()

    def watch_oom(self) -> None:
        """Tell of OOM kills from now on, and of those there were."""
        assert self.found is not None
        self._oom = OomWatch(self._loop, self.found, self._on_oom)
        self._oom.look()

    def kill_all(self) -> None:
        """With a shared pid namespace the kernel does not do it: what the init leaves behind dies with it."""
        if self.found is not None and not self.found.kill():
            self._loop.later(KILL_AGAIN_S, self.kill_all)

    def remove_own_level(self) -> None:
        """The container was deleted: see Cgroup."""
        (self.find() if self.found is None else self.found).remove_own_level()

    def close(self) -> None:
        """Watch no more."""
        if self._oom is not None:
            self._oom.close()

    def _present(self) -> Cgroup:
        """What the bundle asks for, or, when there is nothing, where the runtime says it put it."""
        return self._expected if self._expected is not None and self._expected.exists() else self.find()
