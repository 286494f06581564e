"""While a simulation runs, time and randomness are its own, and the worker finds the simulated kernel where it looks for the real one."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
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


def _no_root(guest: object, container: object) -> int:
    """No process of the real machine is a simulated container's init: its files are found on the disk."""
    return -1


@contextlib.contextmanager
def simulated_world(
    loop: SimLoop,
    randomness: random.Random,
    find_cgroup: Callable[..., object],
    look: Callable[..., object],
    free_bytes: Callable[..., int],
) -> Iterator[None]:
    """Patches clocks, random bytes, the boot id, cgroups, what the runtime's state directory tells, and the disk's free space."""
    replacements = (
        ("boot_id", own_host_boot_id),
        ("find_cgroup", find_cgroup),
        ("look", look),
        ("free_bytes", free_bytes),
        ("_root_by_init", _no_root),
    )

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
        for name, replacement in replacements:
            for module in _modules_with(name):
                stack.enter_context(patch.object(module, name, replacement))
        yield


def _modules_with(name: str) -> list[ModuleType]:
    """The worker's modules that look for the kernel by this name. Raises LookupError where there is none: then it has another name now."""
    found = [
        module
        for path, module in sorted(sys.modules.items())
        if path.startswith("corral_worker.") and not path.startswith("corral_worker.shim.") and callable(vars(module).get(name))
    ]
    if not found:
        raise LookupError(f"no module of the worker has {name}")
    return found
