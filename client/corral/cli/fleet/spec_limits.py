"""Docker's options of how much a container may use."""

import re
from typing import Any

from corral.cli.fleet.spec_options import SpecOption

_CPUS = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", re.ASCII)


def size(text: str) -> int:
    """Read a size in bytes, which is more than none. Raises ValueError."""
    from corral.units import parse_size_bytes

    found = parse_size_bytes(text)
    if found <= 0:
        raise ValueError(f"{text!r} is no size above 0")
    return found


def _size_or_unlimited(text: str) -> int:
    return -1 if text.strip() == "-1" else size(text)


def _between(least: int, most: int) -> Any:
    """A reader of a whole number in these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text.strip(), re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def cpus(text: str) -> str:
    """Read a list of processors or memory nodes, such as 0-2,7. Raises ValueError."""
    if not _CPUS.fullmatch(text):
        raise ValueError(f"{text!r} is not a list such as 0-2,7")
    return text


def ulimit(text: str) -> Any:
    """Read docker's --ulimit, NAME=SOFT[:HARD]. Raises ValueError."""
    from typing import get_args

    from corral_schemas.containers import Ulimit, UlimitName

    name, separator, values = text.partition("=")
    known = get_args(get_args(UlimitName)[0])
    if name not in known:
        raise ValueError(f"{name!r} is no limit; there are {', '.join(known)}")
    parts = ["-1" if part == "unlimited" else part for part in values.split(":")]
    if not separator or len(parts) > 2 or not all(re.fullmatch(r"-1|[0-9]{1,18}", part, re.ASCII) for part in parts):
        raise ValueError(f"{text!r} is not NAME=SOFT[:HARD] with whole numbers; -1: no limit")
    soft, hard = int(parts[0]), int(parts[-1])
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"{text!r}: the soft limit is over the hard one")
    return Ulimit(name=name, soft=soft, hard=hard)  # type: ignore[arg-type]


OPTIONS = (
    SpecOption(
        ("--memory-swap",),
        "memory_swap_bytes",
        "Limit of memory and swap together; -1: no limit. Default: as --memory.",
        "SIZE",
        _size_or_unlimited,
    ),
    SpecOption(("--memory-reservation",), "memory_reservation_bytes", "What it keeps when the guest runs short of memory.", "SIZE", size),
    SpecOption(("-c", "--cpu-shares"), "cpu_shares", "Weight among containers; 1024 is usual.", "N", _between(2, 262_144)),
    SpecOption(("--cpuset-cpus",), "cpuset_cpus", "Processors to run on, such as 0-2,7.", "LIST", cpus),
    SpecOption(("--cpuset-mems",), "cpuset_mems", "Memory nodes to use.", "LIST", cpus),
    SpecOption(("--shm-size",), "shm_bytes", "Size of /dev/shm. Default: 64M.", "SIZE", size),
    SpecOption(("--ulimit",), "ulimits", "Limit of each process, such as nofile=1024:4096. Repeatable.", "NAME=SOFT[:HARD]", ulimit, True),
    SpecOption(("--oom-score-adj",), "oom_score_adj", "How soon the kernel ends it for want of memory.", "N", _between(-1000, 1000)),
    SpecOption(("--cgroup-parent",), "cgroup_parent", "Cgroup of the guest in which the container gets one.", "PATH"),
)
