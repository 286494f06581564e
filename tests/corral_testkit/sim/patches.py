"""While a simulation runs, time and randomness are its own, and the worker finds the simulated kernel where it looks for the real one."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

from corral_testkit.sim.loop import SimLoop
from corral_testkit.sim.process import RUNNING

EPOCH_NS = 1_750_000_000_000_000_000
CORES = 2


def wall_ns(loop: SimLoop) -> int:
    """The wall clock of the machine on which the code runs."""
    process = RUNNING.get(None)
    return EPOCH_NS + int(loop.time() * 1e9) + (process.host.wall_offset_ns if process is not None else 0)


def own_host_boot_id() -> str:
    return RUNNING.get().host.boot_id


@contextlib.contextmanager
def simulated_world(loop: SimLoop, randomness: random.Random, find_cgroup: Callable[..., object], look: Callable[..., object]) -> Iterator[None]:
    """Patches clocks, random bytes, the boot id, cgroups and what the runtime's state directory tells."""

    def random_bytes(count: int) -> bytes:
        return randomness.randbytes(count)

    with contextlib.ExitStack() as stack:
        for target, name, value in (
            (time, "time_ns", lambda: wall_ns(loop)),
            (time, "time", lambda: wall_ns(loop) / 1e9),
            (time, "monotonic", loop.time),
            (time, "monotonic_ns", lambda: int(loop.time() * 1e9)),
            (os, "urandom", random_bytes),
            (random, "_urandom", random_bytes),
            (os, "cpu_count", lambda: CORES),
        ):
            stack.enter_context(patch.object(target, name, value))
        for target_path, replacement in (
            ("corral_worker.adopt.boot_id", own_host_boot_id),
            ("corral_worker.adopt.find_cgroup", find_cgroup),
            ("corral_worker.adopt.look", look),
            ("corral_worker.drift.look", look),
        ):
            stack.enter_context(patch(target_path, replacement))
        yield
