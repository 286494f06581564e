"""The limits that a spec sets, as OCI `linux.resources` and rlimits."""

import resource
from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec
from corral_schemas.limits import PIDS_LIMIT_DEFAULT
from corral_worker.shim.cgroup.cgroup import hierarchies

CFS_PERIOD_US = 100_000
OPEN_FILES_MAX = 1_048_576
_UNLIMITED = -1


def resources_of(spec: ContainerSpec) -> dict[str, Any]:
    """Return `linux.resources` with the spec's limits."""
    found: dict[str, Any] = {"pids": {"limit": _pids_limit(spec.pids_limit)}}
    if spec.memory_bytes:
        found["memory"] = {"limit": spec.memory_bytes}
        if can_limit_swap(hierarchies()):
            found["memory"]["swap"] = spec.memory_bytes  # memory and swap together: swap adds nothing
    if spec.cpus:
        found["cpu"] = {"period": CFS_PERIOD_US, "quota": max(1_000, int(spec.cpus * CFS_PERIOD_US))}
    return found


def rlimits() -> list[dict[str, Any]]:
    """Return the rlimits of every container: docker's number of open files, or the guest's own where that is lower."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
    return [{"type": "RLIMIT_NOFILE", "hard": most, "soft": 1024}]


def can_limit_swap(mounts: dict[str, str]) -> bool:
    """Whether this guest counts swap: without that a runtime refuses a container with a limit of it. `mounts`: by controller."""
    if "memory" in mounts:
        return Path(mounts["memory"], "memory.memsw.limit_in_bytes").exists()
    if "" in mounts:  # the top of v2 has no limits; every cgroup below it has the same files
        return any(Path(mounts[""]).glob("*/memory.swap.max"))
    return False


def _pids_limit(asked: int | None) -> int:
    """0 is docker's word for no limit, too."""
    if asked is None:
        return PIDS_LIMIT_DEFAULT
    return asked if asked > 0 else _UNLIMITED
