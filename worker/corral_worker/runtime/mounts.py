"""What a spec mounts: directories and files of the guest, and file systems in memory."""

from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec, Mount, Tmpfs
from corral_schemas.errors import error
from corral_worker.runtime.seccomp import kernel_version

_RECURSIVE_READONLY_SINCE = (5, 12)
"""Linux's mount_setattr, which `rro` needs."""
_SAFE = ("noexec", "nosuid", "nodev")
"""What docker gives a tmpfs unless the opposite is asked for."""


def mounts_of(spec: ContainerSpec, rootfs: Path, *, layered: bool) -> list[dict[str, Any]]:
    """Return the spec's mounts, a directory before what is in it. Raises bad_request for one that cannot be."""
    found = [*(_tmpfs(tmpfs) for tmpfs in spec.tmpfs), *(_bind(mount) for mount in spec.mounts)]
    if _needs_tmp(spec, rootfs, layered=layered) and not any(Path(mount["destination"]) == Path("/tmp") for mount in found):
        found.insert(0, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]})
    return sorted(found, key=lambda mount: len(Path(mount["destination"]).parts))


def _needs_tmp(spec: ContainerSpec, rootfs: Path, *, layered: bool) -> bool:
    """A read-only root gets a tmpfs where it has the directory to mount it on."""
    return not (spec.writable or spec.overlay) and (layered or (rootfs / "tmp").is_dir())


def _tmpfs(tmpfs: Tmpfs) -> dict[str, Any]:
    if not tmpfs.destination.startswith("/"):
        raise error("bad_request", f"tmpfs {tmpfs.destination}: the path must be absolute", mount=tmpfs.destination)
    opposites = {option.removeprefix("no") for option in tmpfs.options if option in ("exec", "suid", "dev")}
    options = [option for option in _SAFE if option.removeprefix("no") not in opposites]
    return {"destination": tmpfs.destination, "type": "tmpfs", "source": "tmpfs", "options": [*options, *tmpfs.options]}


def _bind(mount: Mount) -> dict[str, Any]:
    if not mount.source.startswith("/") or not mount.destination.startswith("/"):
        raise error("bad_request", f"mount {mount.source}:{mount.destination}: both must be absolute paths", mount=mount.source)
    if not Path(mount.source).exists():
        raise error("bad_request", f"mount source {mount.source} does not exist in the guest", mount=mount.source)
    options = ["rbind", mount.propagation, *(_readonly() if mount.readonly else ["rw"])]
    return {"destination": mount.destination, "type": "bind", "source": mount.source, "options": options}


def _readonly() -> list[str]:
    """Read-only with all that is mounted below the source, where the guest's kernel can."""
    return ["rro", "ro"] if kernel_version() >= _RECURSIVE_READONLY_SINCE else ["ro"]
