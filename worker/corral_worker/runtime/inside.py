"""What a container made from a spec sees besides its own files: kernel file systems, what is hidden of them."""

from pathlib import Path
from typing import Any

from corral_worker.runtime.cgroups import cgroup_version

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_CPUS = Path("/sys/devices/system/cpu")
_MOUNTS: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
)
_CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}


def kernel_mounts(*, writable: bool = False, shm_bytes: int | None = None) -> list[dict[str, Any]]:
    """Return the mounts of the kernel's file systems. The cgroup is there: runtimes of languages size themselves after it.

    `writable`: /sys and the cgroup are, as in a privileged container.
    """
    found = [*_MOUNTS, *([_CGROUP] if cgroup_version() != "none" else [])]
    if writable:
        found = [{**mount, "options": [option for option in mount["options"] if option != "ro"]} for mount in found]
    if shm_bytes is None:
        return found
    return [_sized(mount, shm_bytes) if mount["destination"] == "/dev/shm" else mount for mount in found]


def _sized(mount: dict[str, Any], size_bytes: int) -> dict[str, Any]:
    options = [option for option in mount["options"] if not option.startswith("size=")]
    return {**mount, "options": [*options, f"size={size_bytes}"]}


def masked_paths() -> list[str]:
    """Return the paths that a container does not see, those of this guest's processors among them: they tell of the guest's other work."""
    return [*MASKED_PATHS, *sorted(str(path) for path in _CPUS.glob("cpu[0-9]*/thermal_throttle"))]
