"""An OCI config.json from a ContainerSpec: what `docker run` would give a container, as far as it needs no daemon."""

import os
import resource
from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec, Mount
from corral_schemas.errors import error
from corral_worker.runtime.users import resolve_user

OCI_VERSION = "1.0.2"
CFS_PERIOD_US = 100_000
OPEN_FILES_MAX = 1_048_576
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]
"""Docker's default set."""
MASKED_PATHS = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_MOUNTS: list[dict[str, Any]] = [
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
]


def config_from_spec(spec: ContainerSpec, hostname: str, *, tty: bool) -> dict[str, Any]:
    """The OCI configuration. Raises bundle_invalid for a rootfs that is no directory, bad_request for a user or mount that cannot be."""
    rootfs = Path(spec.rootfs)
    if not rootfs.is_absolute() or not rootfs.is_dir():
        raise error("bundle_invalid", f"rootfs {spec.rootfs!r} is not an absolute path of a directory in the guest", rootfs=spec.rootfs)
    hostname = spec.hostname or hostname[:63]
    network = [{"type": "network"}] if spec.network == "none" else []
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": tty,
            "user": _user(spec, rootfs),
            "args": spec.args,
            "env": [PATH_ENV, f"HOSTNAME={hostname}", *(["TERM=xterm"] if tty else []), *spec.env],
            "cwd": spec.cwd or "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": _open_files_max(), "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": not (spec.writable or spec.overlay)},
        "hostname": hostname,
        "mounts": [*_MOUNTS, *_tmp(spec, rootfs), *_host_files(spec, rootfs), *(_bind(mount) for mount in spec.mounts)],
        "linux": {
            "resources": resources_of(spec),
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")] + network,
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
        },
    }


def _user(spec: ContainerSpec, rootfs: Path) -> dict[str, Any]:
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        return resolve_user(spec.user, root)
    finally:
        os.close(root)


def _open_files_max() -> int:
    """Docker's limit, or the guest's own where that is lower (a runtime may not raise it)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)


def resources_of(spec: ContainerSpec) -> dict[str, Any]:
    """OCI `linux.resources` with the spec's limits; devices as `runc spec` has them."""
    found: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    if spec.memory_bytes:
        found["memory"] = {"limit": spec.memory_bytes}
    if spec.cpus:
        found["cpu"] = {"period": CFS_PERIOD_US, "quota": max(1_000, int(spec.cpus * CFS_PERIOD_US))}
    if spec.pids_limit:
        found["pids"] = {"limit": spec.pids_limit}
    return found


def _tmp(spec: ContainerSpec, rootfs: Path) -> list[dict[str, Any]]:
    """A read-only root gets a tmpfs where it has the directory to mount it on."""
    if spec.writable or spec.overlay or not (rootfs / "tmp").is_dir():
        return []
    return [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}]


def _host_files(spec: ContainerSpec, rootfs: Path) -> list[dict[str, Any]]:
    """With the guest's network come its names, where the rootfs has a file to mount them over."""
    if spec.network != "host":
        return []
    names = ("/etc/resolv.conf", "/etc/hosts")
    return [
        {"destination": name, "type": "bind", "source": name, "options": ["bind", "ro"]}
        for name in names
        if Path(name).is_file() and (rootfs / name[1:]).is_file()
    ]


def _bind(mount: Mount) -> dict[str, Any]:
    if not mount.source.startswith("/") or not mount.destination.startswith("/"):
        raise error("bad_request", f"mount {mount.source}:{mount.destination}: both must be absolute paths", mount=mount.source)
    if not Path(mount.source).exists():
        raise error("bad_request", f"mount source {mount.source} does not exist in the guest", mount=mount.source)
    options = ["rbind", "rprivate", "ro" if mount.readonly else "rw"]
    return {"destination": mount.destination, "type": "bind", "source": mount.source, "options": options}
