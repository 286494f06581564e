"""The limits that a spec sets, as OCI `linux.resources` and rlimits."""

import resource
from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import error
from corral_schemas.limits import PIDS_LIMIT_DEFAULT
from corral_worker.shim.cgroup.cgroup import hierarchies

CFS_PERIOD_US = 100_000
OPEN_FILES_MAX = 1_048_576
_UNLIMITED = -1
_RLIM_INFINITY = (1 << 64) - 1


def resources_of(spec: ContainerSpec) -> dict[str, Any]:
    """Return `linux.resources` with the spec's limits. Raises bad_request for limits that do not go together."""
    found: dict[str, Any] = {}
    if (spec.pids_limit or 0) > 0 or can_limit_pids(hierarchies()):  # a limit that was asked for and cannot be is the runtime's to refuse
        found["pids"] = {"limit": _pids_limit(spec.pids_limit)}
    if memory := _memory(spec):
        found["memory"] = memory
    cpu: dict[str, Any] = {}
    if spec.cpus:
        cpu = {"period": CFS_PERIOD_US, "quota": max(1_000, int(spec.cpus * CFS_PERIOD_US))}
    given = {"shares": spec.cpu_shares, "cpus": spec.cpuset_cpus, "mems": spec.cpuset_mems}
    cpu |= {name: value for name, value in given.items() if value}
    if cpu:
        found["cpu"] = cpu
    return found


def _memory(spec: ContainerSpec) -> dict[str, Any]:
    """Memory and swap together are what the runtime limits; without a word of swap it gets none."""
    found: dict[str, Any] = {}
    total = spec.memory_swap_bytes
    if spec.memory_bytes:
        found["limit"] = spec.memory_bytes
        swap = spec.memory_bytes if total is None else total
        if 0 <= swap < spec.memory_bytes:
            raise error("bad_request", f"memory_swap_bytes {swap} is memory and swap together: give at least the memory limit, or -1")
        if can_limit_swap(hierarchies()):
            found["swap"] = swap
        elif total is not None:
            raise error("bad_request", "this guest does not count swap, so memory_swap_bytes has no effect; leave it out")
    elif total is not None:
        raise error("bad_request", "memory_swap_bytes needs memory_bytes: it is the limit of both together")
    if spec.memory_reservation_bytes:
        if spec.memory_bytes and spec.memory_reservation_bytes > spec.memory_bytes:
            raise error("bad_request", "memory_reservation_bytes is more than the memory limit")
        found["reservation"] = spec.memory_reservation_bytes
    return found


def rlimits_of(spec: ContainerSpec) -> list[dict[str, Any]]:
    """Return the rlimits: the spec's, and docker's number of open files, or the guest's own where that is lower."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
    found = {"nofile": (1024, most)} | {limit.name: (limit.soft, limit.hard) for limit in spec.ulimits}
    for name, (soft, hard) in found.items():
        if hard != _UNLIMITED and not 0 <= soft <= hard:
            raise error("bad_request", f"ulimit {name}: the soft limit {soft} is over the hard limit {hard}", ulimit=name)
    return [{"type": f"RLIMIT_{name.upper()}", "soft": _rlim(soft), "hard": _rlim(hard)} for name, (soft, hard) in found.items()]


def _rlim(value: int) -> int:
    return _RLIM_INFINITY if value == _UNLIMITED else value


def can_limit_swap(mounts: dict[str, str]) -> bool:
    """Whether this guest counts swap: without that a runtime refuses a container with a limit of it. `mounts`: by controller."""
    if "memory" in mounts:
        return Path(mounts["memory"], "memory.memsw.limit_in_bytes").exists()
    if "" in mounts:  # the top of v2 has no limits; every cgroup below it has the same files
        return any(Path(mounts[""]).glob("*/memory.swap.max"))
    return False


def can_limit_pids(mounts: dict[str, str]) -> bool:
    """Whether this guest counts processes: without that a runtime refuses any word of a limit of them. `mounts`: by controller."""
    if "pids" in mounts:
        return True
    controllers = Path(mounts[""], "cgroup.controllers") if "" in mounts else None
    return controllers is not None and controllers.exists() and "pids" in controllers.read_text().split()


def _pids_limit(asked: int | None) -> int:
    """0 is docker's word for no limit, too."""
    if asked is None:
        return PIDS_LIMIT_DEFAULT
    return asked if asked > 0 else _UNLIMITED
