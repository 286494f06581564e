"""Which directories of the guest commands may name: everything by default, or only what lies below given roots.

Paths are resolved to the end before they are judged, and the resolved path is what the runtime gets, so that no symbolic link and no `..`
leads out. This holds mistakes and narrow roles to their directories; it is no prison for somebody who may start containers with every
capability, nor for somebody in the guest who exchanges directories below the roots while a container is made from them.
"""

from pathlib import Path
from typing import Any

from corral_schemas.errors import error

Roots = tuple[Path, ...]
ANYWHERE: Roots = ()
_KERNEL_FILESYSTEMS = ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2")
"""They read no file of the guest, whatever their options say."""


def confined(path: Path, roots: Roots, what: str) -> Path:
    """The path itself when no roots are given; else resolved, if it lies below one. Raises bundle_invalid."""
    if not roots:
        return path
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as why:  # RuntimeError: a loop of links; ValueError: a zero byte
        raise error("bundle_invalid", f"{what} {path} cannot be resolved: {why}", path=str(path)) from why
    if not any(resolved.is_relative_to(root) for root in roots):
        raise error("bundle_invalid", f"{what} {path} lies outside the roots allowed in this guest", path=str(path))
    return resolved


def confine_config(config: dict[str, Any], roots: Roots) -> None:
    """Holds an OCI configuration to the roots: mounts from the guest's files, and no hooks. Raises bundle_invalid.

    The worker's own mounts are added to it later.
    """
    if not roots:
        return
    if config.get("hooks"):
        raise error("bundle_invalid", "hooks run programs of the guest outside the container: not with allowed roots")
    mounts = config.get("mounts") or []
    if not isinstance(mounts, list):
        raise error("bundle_invalid", "mounts is no list")
    for mount in mounts:
        _confine_mount(mount, roots)


def _confine_mount(mount: Any, roots: Roots) -> None:
    if not isinstance(mount, dict):
        raise error("bundle_invalid", "a mount is no object")
    kind, source, options = mount.get("type") or "", mount.get("source") or "", mount.get("options") or []
    if not isinstance(kind, str) or not isinstance(source, str):
        raise error("bundle_invalid", "a mount's type or source is no text")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise error("bundle_invalid", "a mount's options are no list of texts")
    if is_bind(mount):
        mount["source"] = str(confined(Path(source), roots, "mount"))
        mount["type"] = "bind"  # a runtime may take the type for what is mounted, whatever the options say
    elif kind not in _KERNEL_FILESYSTEMS or source.startswith("/"):
        raise error("bundle_invalid", f"a mount of type {kind[:40]!r} from {source[:200]!r} is not among those allowed with allowed roots")


def is_bind(mount: dict[str, Any]) -> bool:
    """By its type or its options, as the runtime reads them."""
    options = mount.get("options")
    return mount.get("type") == "bind" or (isinstance(options, list) and ("bind" in options or "rbind" in options))
