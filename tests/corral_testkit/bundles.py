"""OCI bundles for tests: a busybox root filesystem, and the configuration that `runc spec` would write."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def make_rootfs(directory: Path) -> Path:
    """A root filesystem with busybox and a link for each of its applets; returns ``directory``."""
    binaries = directory / "bin"
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(BUSYBOX, binaries / "busybox")
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox" and not (binaries / applet).exists():
            (binaries / applet).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return directory


def make_bundle(
    directory: Path,
    argv: list[str],
    *,
    rootfs: Path | None = None,
    tty: bool = False,
    env: list[str] | None = None,
    cwd: str = "/",
    cgroups_path: str | None = None,
    oom_score_adj: int | None = 0,
    memory_limit_bytes: int | None = None,
    shared_pid_namespace: bool = False,
    mounts: list[dict[str, Any]] | None = None,
    hooks: dict[str, Any] | None = None,
) -> Path:
    """Write ``directory/config.json`` for a process; returns ``directory``.

    Args:
        rootfs: a root filesystem to share (an absolute path goes into the configuration); None: make ``rootfs`` inside.
        cgroups_path: e.g. ``/corral/guest/instance``; None leaves it to the runtime.
        mounts: further OCI mounts, after the usual ones.
        hooks: OCI hooks by kind.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if rootfs is None:
        make_rootfs(directory / "rootfs")
    config = {
        "ociVersion": "1.0.2",
        "process": make_process(argv, tty=tty, env=env, cwd=cwd, oom_score_adj=oom_score_adj),
        "root": {"path": str(rootfs) if rootfs is not None else "rootfs", "readonly": False},
        "hostname": "corral",
        "mounts": [*_usual_mounts(), *(mounts or [])],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount") if not (kind == "pid" and shared_pid_namespace)
            ],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }
    if hooks is not None:
        config["hooks"] = hooks
    linux: dict[str, Any] = config["linux"]  # type: ignore[assignment]
    if memory_limit_bytes is not None:
        linux["resources"]["memory"] = {"limit": memory_limit_bytes}
    if cgroups_path is not None:
        linux["cgroupsPath"] = cgroups_path
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def make_process(
    argv: list[str],
    *,
    tty: bool = False,
    env: list[str] | None = None,
    cwd: str = "/",
    oom_score_adj: int | None = 0,
) -> dict[str, Any]:
    """The OCI process object, as in config.json and for ``runc exec --process``."""
    process: dict[str, Any] = {
        "terminal": tty,
        "user": {"uid": 0, "gid": 0},
        "args": argv,
        "env": [f"PATH={PATH}", "TERM=xterm", *(env or [])],
        "cwd": cwd,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }
    if oom_score_adj is not None:
        process["oomScoreAdj"] = oom_score_adj
    return process


def _usual_mounts() -> list[dict[str, Any]]:
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    ]


def _mount(destination: str, kind: str, source: str, options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options.split()}
