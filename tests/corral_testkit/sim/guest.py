"""A guest: a machine with a disk, a kernel, shims and one worker, each of which can end on its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from corral_testkit.sim.bundle_disk import BundleDisk
from corral_testkit.sim.disk import Disk, SimStore
from corral_testkit.sim.loop import SimLoop
from corral_testkit.sim.network import Network
from corral_testkit.sim.process import Host, Process
from corral_testkit.sim.runtime import Kernel
from corral_testkit.sim.shim import SimShim
from corral_testkit.sim.shims import SimShims
from corral_testkit.sim.sockets import SimDialer
from corral_testkit.sim.witness import Witness
from corral_worker.base.paths import GuestPaths
from corral_worker.containers.guest import Settings
from corral_worker.runtime.runc import Runtime
from corral_worker.service import Parts, Worker

log = logging.getLogger(__name__)

UNSAFE_S = 5.0
"""What was written so shortly before a power cut may be gone, where nobody synced it."""


class SimGuest:
    """Its state directory is a real one (on a tmpfs); its journal is on the simulated disk."""

    def __init__(
        self, loop: SimLoop, network: Network, name: str, directory: Path, brokers: list[str], witness: Witness, randomness: random.Random
    ) -> None:
        self.loop, self.network, self.name, self.witness, self.randomness = loop, network, name, witness, randomness
        self.host = Host(name)
        self.paths = GuestPaths(directory / name / "state", directory / name / "run")
        self.paths.make()
        self.disk = Disk(randomness)
        self.bundles = BundleDisk(self.paths.bundles, directory / name / "snapshot", randomness)
        self.shims: dict[str, SimShim] = {}
        self.dying: set[str] = set()
        self.shims_killed: set[str] = set()  # container instances, for good
        self.slow_s = 0.0
        """How much longer runtime calls may take."""
        self.failures: list[str] = []
        """What no worker should do."""
        self.absences: list[tuple[float, float]] = []
        """(from, until): when no worker was there."""
        self._brokers = brokers
        self._left_s = 0.0  # when the last worker ended
        self._start_again = False
        self._boots = 1
        self._snapshot_instances: set[str] = set()
        self.kernel = self._boot_kernel()
        self.worker: Process | None = None
        self._stop: asyncio.Event | None = None
        self._at_call: Callable[[], None] | None = None  # what is to happen in the middle of the next call of the runtime

    def _boot_kernel(self) -> Kernel:
        process = Process(self.loop, self.host, f"kernel-{self.name}")
        return Kernel(self.name, process, self.witness, self.randomness, self.paths.runtime_root, 1_000 * self._boots)

    def call_s(self) -> float:
        """How long a call of the runtime takes."""
        return 0.003 + 0.02 * self.randomness.random() ** 2 + self.slow_s * self.randomness.random()

    def call_begins(self, takes_s: float) -> None:
        """A call of the runtime that makes something has begun."""
        happens, self._at_call = self._at_call, None
        if happens is not None:
            self.kernel.process.call_later(takes_s * self.randomness.random(), happens)

    def at_call(self, happens: Callable[[], None] | None) -> None:
        """In the middle of the next call of the runtime that makes something; None: nothing any more."""
        self._at_call = happens

    def fork_s(self) -> float:
        return 0.000_5 + 0.002 * self.randomness.random()

    # -- the worker --------------------------------------------------------------------------------------------------------------

    @property
    def worker_is_alive(self) -> bool:
        return self.worker is not None and self.worker.alive

    def start_worker(self) -> None:
        if self.worker_is_alive:
            self._start_again = self._stop is not None and self._stop.is_set()
        elif self.kernel.process.alive:
            if self.worker is not None:
                self.absences.append((self._left_s, self.loop.time()))
            self.worker = Process(self.loop, self.host, f"worker-{self.name}")
            self.worker.on_death.append(self._left)
            self.worker.spawn(self._run_worker(self.worker))

    def _left(self) -> None:
        self._left_s = self.loop.time()
        if self._start_again:  # it was to be started while it was still leaving
            self._start_again = False
            self.loop.call_soon(self.start_worker, context=self.network.context)

    async def _run_worker(self, process: Process) -> None:
        settings = Settings(guest=self.name, paths=self.paths, runtime=Runtime("runc", self.paths.runtime_root))
        parts = Parts(
            open_store=partial(SimStore, self.disk, process), shims=SimShims(self, process), dialer=SimDialer(self.network, process)
        )
        self._stop = stop = asyncio.Event()
        try:
            worker = Worker(settings, self._brokers, "runc simulated", parts)
            await worker.run(stop, lambda: None)
        except Exception as bug:
            log.error("worker of %s failed", self.name, exc_info=bug)
            self.failures.append(f"worker ended by itself: {bug!r}")
        process.kill()

    def kill_worker(self) -> None:
        if self.worker is not None:
            self.worker.kill()

    def stop_worker(self) -> None:
        """SIGTERM."""
        if self.worker_is_alive and self._stop is not None:
            assert self.worker is not None
            self.worker.call_soon(self._stop.set)

    # -- shims ---------------------------------------------------------------------------------------------------------------------

    def kill_shim(self, instance: str) -> None:
        """Its parent sees it, ends the container, and only then lets another shim be forked."""
        shim = self.shims.pop(instance, None)
        if shim is None:
            return
        shim.die()
        for life in self.witness.lives:
            life.orphaned |= life.container == instance
        self.shims_killed.add(instance)
        self.dying.add(instance)
        self.kernel.process.call_later(0.001 + 0.03 * self.randomness.random(), self._end_container, instance)

    def _end_container(self, instance: str) -> None:
        self.kernel.kill_all(instance, "shim died")
        self.dying.discard(instance)

    # -- power -----------------------------------------------------------------------------------------------------------------------

    def power_cut(self) -> None:
        """Everything that runs ends; what was not synced may be gone. Brokers are not told."""
        if self.worker is not None:
            self.network.power_lost(self.worker)
        self.kill_worker()
        now_s = self.loop.time()
        for shim in list(self.shims.values()):
            shim.die()
        self.shims.clear()
        self.dying.clear()
        for container in list(self.kernel.containers):
            self.kernel.kill_all(container, "power")
        self.kernel.process.kill()
        for life in self.witness.lives:
            if life.guest == self.name:
                life.orphaned = True
                recent = now_s - life.ended_s < UNSAFE_S if life.end is not None else True
                if recent:
                    self._forget_unsynced(life)
        self.bundles.power_cut(now_s)
        shutil.rmtree(self.paths.run, ignore_errors=True)

    def _forget_unsynced(self, life: Any) -> None:
        directory = self.paths.process(life.container, life.instance)
        life.spool_cut = life.end_unsafe = True
        if self.randomness.random() < 0.5:
            (directory / "end").unlink(missing_ok=True)
        for path in sorted(directory.glob("*.spool")):
            size = path.stat().st_size
            with contextlib.suppress(OSError), path.open("r+b") as file:
                file.truncate(self.randomness.randint(0, size))

    def take_snapshot(self) -> None:
        """Of the whole disk: the journal, the bundles, and which containers have a directory."""
        self.disk.take_snapshot()
        self.bundles.take_snapshot()
        self._snapshot_instances = {path.name for path in self.paths.instances.iterdir()}

    def snapshot_place(self) -> tuple[str, int]:
        """Epoch and seq of the journal in the snapshot."""
        return self.disk.snapshot_place()

    def rewind(self) -> None:
        """The disk as it was at the snapshot. What was deleted since is taken as kept: directories outlive their containers."""
        self.disk.rewind()
        self.bundles.rewind(self.loop.time())
        for path in self.paths.instances.iterdir():
            if path.name not in self._snapshot_instances:
                shutil.rmtree(path, ignore_errors=True)
        for life in self.witness.lives:
            if life.guest == self.name:
                life.spool_cut = life.end_unsafe = True

    def boot(self) -> None:
        """Power again: another boot, an empty /run."""
        self._boots += 1
        self.host.boot_id = f"boot-{self.name}-{self._boots}"
        self.paths.make()
        self.kernel = self._boot_kernel()
        self.start_worker()


class SimCgroup:
    """What the worker finds in place of a container's cgroup."""

    def __init__(self, guest: SimGuest, instance: str) -> None:
        self._guest, self._instance = guest, instance

    def kill(self) -> bool:
        self._guest.kernel.kill_all(self._instance, "buried")
        return True

    def pids(self) -> list[int]:
        found = self._guest.kernel.containers.get(self._instance)
        return [one.life.pid for one in found.processes if not one.ended] if found is not None else []

    def remove(self) -> bool:
        self._guest.kernel.forget(self._instance)
        return True

    def exists(self) -> bool:
        return self._instance in self._guest.kernel.containers
