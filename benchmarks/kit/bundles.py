"""A root file system with busybox, and OCI bundles on it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from kit.figures import MissingError

APPLETS = ("sh", "true", "cat", "sleep", "yes", "head", "dd", "seq", "echo", "kill", "stty", "awk")


def busybox() -> str:
    """Raises MissingError."""
    path = shutil.which("busybox")
    if path is None:
        raise MissingError("busybox (apt-get install busybox-static)")
    return path


def runc() -> str:
    """Raises MissingError where containers cannot be run."""
    path = shutil.which("runc")
    if path is None:
        raise MissingError("runc (apt-get install runc)")
    if os.geteuid() != 0:
        raise MissingError("root: runc is run as root")
    return path


def make_rootfs(directory: Path) -> Path:
    """Raises MissingError, OSError."""
    (directory / "bin").mkdir(parents=True)
    for name in ("proc", "sys", "dev", "tmp"):
        (directory / name).mkdir()
    shutil.copy2(busybox(), directory / "bin" / "busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    return directory


def make_bundle(directory: Path, rootfs: Path, args: list[str], *, cgroup: str = "", terminal: bool = False) -> Path:
    """`runc spec`, with other arguments. Without a cgroup the caller's is used (Corral puts its own in). Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "config.json").exists():
        subprocess.run([runc(), "spec"], cwd=directory, check=True)
    path = directory / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    config["process"].update(args=args, terminal=terminal)
    config["root"] = {"path": str(rootfs), "readonly": True}
    if cgroup:
        config["linux"]["cgroupsPath"] = cgroup
    path.write_text(json.dumps(config))
    return directory
