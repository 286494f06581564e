"""What a container's cgroup tells: its processes and its figures, on v1, v2 and hybrid."""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from corral_schemas.containers import ContainerProcessState, ContainerStats
from corral_worker.base.paths import GuestPaths
from corral_worker.shim.cgroup import cgroup

_UNLIMITED = 1 << 60
_FIGURES = ("cpu_ns", "memory_bytes", "memory_limit_bytes", "memory_max_usage_bytes", "pids", "pids_limit")


def cgroup_paths(paths: GuestPaths, instance: str) -> dict[str, Path]:
    """Controller → directory (v2: the empty name), of those that are there: whatever the runtime, also one that makes none."""
    found = cgroup.cgroup_paths(paths.run, paths.state, instance)
    return {controller: Path(path) for controller, path in found.items() if os.path.isdir(path)}  # noqa: PTH112


def cgroup_version(root: Path = Path("/sys/fs/cgroup")) -> str:
    """`v2`, `hybrid`, `v1`, or `none`."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    if (root / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    return "v1" if any((root / name).is_dir() for name in ("pids", "memory", "systemd")) else "none"


def children(parent: str) -> set[str]:
    """Names of the cgroups in this one, in whatever hierarchy."""
    found: set[str] = set()
    for mount in set(cgroup.hierarchies().values()):
        with contextlib.suppress(FileNotFoundError), os.scandir(mount + parent) as entries:  # not made yet, or a zygote removes it just now
            found.update(entry.name for entry in entries if entry.is_dir())
    return found


def pids_in(paths: dict[str, Path]) -> list[int]:
    """Every process in the cgroup and below it."""
    for controller in ("", "pids", "memory", "systemd", "freezer"):
        if controller in paths:
            top = paths[controller]
            found: set[int] = set()
            for file in [top / "cgroup.procs", *top.glob("**/cgroup.procs")]:
                found.update(_numbers(file))
            if found:  # else it may be a hierarchy that the runtime does not use
                return sorted(found)
    return []


def _numbers(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split() if word.isdigit()]
    except OSError:
        return []


def process_state(pid: int) -> ContainerProcessState | None:
    """A process from /proc (proc(5)); None once it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return None
    zombie = stat.rpartition(")")[2].split()[0] == "Z"
    args = [part.decode(errors="replace") for part in command.split(b"\0")] if command else []
    return ContainerProcessState(pid=pid, command=args, is_zombie=zombie)


def ended_children(pids: list[int]) -> set[int]:
    """Children of these processes that have ended and are not reaped: cgroup v1 does not list them."""
    found: set[int] = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            found.update(child for child in _numbers(file) if (state := process_state(child)) is not None and state.is_zombie)
    return found


def stats(paths: dict[str, Path]) -> ContainerStats:
    """Figures now; what these cgroups do not give is None.

    With both kinds mounted (hybrid) each controller sits in one of them only: what v1 does not give is looked for in v2.
    """
    found = _stats_v1(paths)
    if "" not in paths:
        return found
    unified = _stats_v2(paths[""])
    missing = {name: getattr(unified, name) for name in _FIGURES if getattr(found, name) is None}
    return msgspec.structs.replace(found, **missing, oom_kills=max(found.oom_kills, unified.oom_kills))


def _stats_v2(top: Path) -> ContainerStats:
    cpu = _table(top / "cpu.stat").get("usage_usec")
    return ContainerStats(
        time_ns=time.time_ns(),
        cpu_ns=None if cpu is None else cpu * 1000,
        memory_bytes=_number(top / "memory.current"),
        memory_limit_bytes=_number(top / "memory.max"),
        memory_max_usage_bytes=_number(top / "memory.peak"),
        pids=_number(top / "pids.current"),
        pids_limit=_number(top / "pids.max"),
        oom_kills=_table(top / "memory.events").get("oom_kill", 0),
    )


def _stats_v1(paths: dict[str, Path]) -> ContainerStats:
    memory, pids = paths.get("memory"), paths.get("pids")
    return ContainerStats(
        time_ns=time.time_ns(),
        cpu_ns=_number(paths["cpuacct"] / "cpuacct.usage") if "cpuacct" in paths else None,
        memory_bytes=_number(memory / "memory.usage_in_bytes") if memory else None,
        memory_limit_bytes=_number(memory / "memory.limit_in_bytes") if memory else None,
        memory_max_usage_bytes=_number(memory / "memory.max_usage_in_bytes") if memory else None,
        pids=_number(pids / "pids.current") if pids else None,
        pids_limit=_number(pids / "pids.max") if pids else None,
        oom_kills=_table(memory / "memory.oom_control").get("oom_kill", 0) if memory else 0,
    )


def _number(file: Path) -> int | None:
    """A file with one number; None where it says `max` or a number that means no limit, or is not there."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def _table(file: Path) -> dict[str, int]:
    """A file with lines of `name number`."""
    try:
        rows = (line.split() for line in file.read_text().splitlines())
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    except OSError:
        return {}


def is_frozen(paths: dict[str, Path]) -> bool:
    """Whether the processes of a cgroup are frozen (freezer controller of v1, cgroup.freeze of v2)."""
    try:
        if "freezer" in paths:
            return (paths["freezer"] / "freezer.state").read_text().strip() != "THAWED"
        if "" in paths:
            return (paths[""] / "cgroup.freeze").read_text().strip() == "1"
    except OSError:
        return False  # it is just going
    return False
