"""Memory and CPU time of processes, from /proc."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

KIB = 1024
MIB = 1024 * 1024


def private_bytes(pid: int) -> int:
    """Memory that would be free if the process ended. Raises OSError."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return KIB * sum(int(row.split()[1]) for row in rows if row.startswith(("Private_Clean", "Private_Dirty")))


def resident_bytes(pid: int) -> int:
    """Raises OSError."""
    row = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return KIB * int(row.split()[1])


def cpu_s(pid: int) -> float:
    """Seconds on a core so far, all threads, exact to the nanosecond. Raises OSError."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


async def cpu_shares(pids: Iterable[int], seconds: float) -> list[float]:
    """Share of one core (0 to 1) that each uses over that time."""
    before = {pid: cpu_s(pid) for pid in pids}
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - begun
    return [(cpu_s(pid) - used) / took for pid, used in before.items()]
