"""Devices of the guest in a container: those a spec names, or all of them in a privileged one."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec, Device
from corral_schemas.errors import error

_LEFT_OUT = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx", "/dev/.udev")
"""What a container has of its own."""
_ALL = "rwm"
_DEVICES_MAX = 1_000
"""Most devices below one directory."""


def devices_of(spec: ContainerSpec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (OCI `linux.devices`, rules for `linux.resources.devices`). Raises bad_request for a device that is not there."""
    if spec.privileged:
        return list(_below(Path("/dev"), "/dev")), [{"allow": True, "access": _ALL}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": _ALL}]
    nodes = []
    for device in spec.devices:
        for node in _named(device):
            nodes.append(node)
            rules.append(
                {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": device.permissions}
            )
    return nodes, rules


def _named(device: Device) -> list[dict[str, Any]]:
    """A device, or all in a directory, under the path it has in the container."""
    source, target = Path(device.source), device.destination or device.source
    if source.is_dir():
        found = list(_below(source, target))
    else:
        node = _node(source, target)
        found = [] if node is None else [node]
    if not found:
        raise error("bad_request", f"device {device.source} is no device in the guest", device=device.source)
    return found


def _below(directory: Path, target: str) -> Iterator[dict[str, Any]]:
    """All devices of a directory; links in it are not followed."""
    number = 0
    for top, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if f"{top}/{name}" not in _LEFT_OUT)
        for name in sorted(files):
            path = Path(top, name)
            if str(path) in _LEFT_OUT or path.is_symlink():
                continue
            node = _node(path, f"{target}/{path.relative_to(directory)}")
            if node is None:
                continue
            number += 1
            if number > _DEVICES_MAX:
                raise error("bad_request", f"{directory} has more than {_DEVICES_MAX} devices", device=str(directory))
            yield node


def _node(path: Path, target: str) -> dict[str, Any] | None:
    """The device as the OCI describes it; None for what is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        return None
    return {
        "path": target,
        "type": kind,
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }
