"""What the machine is like while a table is made: load, the disk's fdatasync, cores, versions."""

import os
import platform
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.figures import quantile

SYNCS = 60
SYNC_BYTES = 4096
MILLISECONDS = 1000


@dataclass(frozen=True)
class Weather:
    """How busy the machine and its disk are at one moment."""

    load_1min: float
    others_share: float
    """Share of all cores that was in use by anybody during the look (0 to 1)."""
    fdatasync_p50_ms: float
    fdatasync_p99_ms: float

    def line(self) -> str:
        """For beside a table."""
        return (
            f"load {self.load_1min:.1f}, cores in use before {self.others_share:.0%}, "
            f"fdatasync p50 {self.fdatasync_p50_ms:.2f} ms p99 {self.fdatasync_p99_ms:.2f} ms"
        )

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def weather(directory: Path) -> Weather:
    """A look now, of under a second; the disk is the one of `directory`. Raises OSError."""
    before = _busy_and_all()
    time.sleep(0.2)
    after = _busy_and_all()
    syncs = _syncs_ms(directory)
    return Weather(os.getloadavg()[0], (after[0] - before[0]) / max(1, after[1] - before[1]), quantile(syncs, 0.5), quantile(syncs, 0.99))


def _busy_and_all() -> tuple[int, int]:
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _syncs_ms(directory: Path) -> list[float]:
    """Appends of 4 KiB, each followed by fdatasync, as a write-ahead log does."""
    path = directory / "fdatasync-probe"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        took = []
        for _ in range(SYNCS):
            os.write(fd, bytes(SYNC_BYTES))
            begun = time.perf_counter()
            os.fdatasync(fd)
            took.append((time.perf_counter() - begun) * MILLISECONDS)
        return took
    finally:
        os.close(fd)
        path.unlink()


def about() -> dict[str, Any]:
    """What does not change: for the head of a report."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "runc": _version("runc"),
    }


def _version(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else ""
