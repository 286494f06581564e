"""An OCI config.json from a ContainerSpec: what `docker run` would give a container, as far as it needs no daemon."""

from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec, Mount
from corral_schemas.errors import error
from corral_worker.runtime.devices import devices_of
from corral_worker.runtime.host_files import opened
from corral_worker.runtime.inside import kernel_mounts, namespaces
from corral_worker.runtime.resources import resources_of, rlimits
from corral_worker.runtime.seccomp import kernel_version
from corral_worker.runtime.security import capabilities_of, security_linux, security_process
from corral_worker.runtime.users import resolve_user

OCI_VERSION = "1.0.2"
HOSTNAME_CHARS_MAX = 63
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERM_ENV = "TERM=xterm"
_RECURSIVE_READONLY_SINCE = (5, 12)
"""Linux's mount_setattr, which `rro` needs."""


def config_from_spec(spec: ContainerSpec, hostname: str, *, tty: bool, layered: bool = False) -> dict[str, Any]:
    """The OCI configuration, `layered`: the container gets a layer of its own over the rootfs.

    Raises bundle_invalid for a rootfs that is no directory, bad_request for a user or mount that cannot be.
    """
    rootfs = Path(spec.rootfs)
    if not rootfs.is_absolute() or not rootfs.is_dir():
        raise error("bundle_invalid", f"rootfs {spec.rootfs!r} is not an absolute path of a directory in the guest", rootfs=spec.rootfs)
    capabilities = capabilities_of(spec)
    devices, device_rules = devices_of(spec)
    with opened(rootfs) as root:
        user = resolve_user(spec.user, root)
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": tty,
            "user": user,
            "args": spec.args,
            "env": with_term([PATH_ENV, f"HOSTNAME={hostname}", *spec.env], tty=tty),
            "cwd": spec.cwd or "/",
            "rlimits": rlimits(),
            **security_process(capabilities, spec),
        },
        "root": {"path": str(rootfs), "readonly": not (spec.writable or spec.overlay)},
        "hostname": hostname,
        "mounts": [
            *kernel_mounts(writable=spec.privileged),
            *_tmp(spec, rootfs, layered=layered),
            *(_bind(mount) for mount in spec.mounts),
        ],
        "linux": {
            "resources": {"devices": device_rules, **resources_of(spec)},
            "devices": devices,
            "namespaces": namespaces(spec.network),
            **security_linux(capabilities, spec),
        },
    }


def hostname_of(spec: ContainerSpec, container: str) -> str:
    """The name that a container has for itself."""
    return spec.hostname or container[:HOSTNAME_CHARS_MAX]


def with_term(env: list[str], *, tty: bool) -> list[str]:
    """The environment, with a TERM where there is a terminal and none is said."""
    needed = tty and not any(text.startswith("TERM=") for text in env)
    return [*env, TERM_ENV] if needed else env


def _tmp(spec: ContainerSpec, rootfs: Path, *, layered: bool) -> list[dict[str, Any]]:
    """A read-only root gets a tmpfs where it has the directory to mount it on."""
    if spec.writable or spec.overlay or not (layered or (rootfs / "tmp").is_dir()):
        return []
    return [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}]


def _bind(mount: Mount) -> dict[str, Any]:
    if not mount.source.startswith("/") or not mount.destination.startswith("/"):
        raise error("bad_request", f"mount {mount.source}:{mount.destination}: both must be absolute paths", mount=mount.source)
    if not Path(mount.source).exists():
        raise error("bad_request", f"mount source {mount.source} does not exist in the guest", mount=mount.source)
    options = ["rbind", "rprivate", *(_readonly() if mount.readonly else ["rw"])]
    return {"destination": mount.destination, "type": "bind", "source": mount.source, "options": options}


def _readonly() -> list[str]:
    """Read-only with all that is mounted below the source, where the guest's kernel can."""
    return ["rro", "ro"] if kernel_version() >= _RECURSIVE_READONLY_SINCE else ["ro"]
