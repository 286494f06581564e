"""An OCI config.json from a ContainerSpec: what `docker run` would give a container, as far as it needs no daemon."""

from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import error
from corral_worker.runtime.devices import devices_of
from corral_worker.runtime.host_files import opened
from corral_worker.runtime.inside import kernel_mounts
from corral_worker.runtime.mounts import mounts_of
from corral_worker.runtime.namespaces import check_sysctls, namespaces
from corral_worker.runtime.resources import resources_of, rlimits_of
from corral_worker.runtime.security import capabilities_of, security_linux, security_process
from corral_worker.runtime.users import resolve_user, with_groups

OCI_VERSION = "1.0.2"
HOSTNAME_CHARS_MAX = 63
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERM_ENV = "TERM=xterm"


def config_from_spec(spec: ContainerSpec, hostname: str, *, tty: bool, layered: bool = False, pid_namespace: str = "") -> dict[str, Any]:
    """The OCI configuration. `layered`: the container gets a layer of its own over the rootfs. `pid_namespace`: see `namespaces`.

    Raises bundle_invalid for a rootfs that is no directory, bad_request for a user or mount that cannot be.
    """
    rootfs = Path(spec.rootfs)
    if not rootfs.is_absolute() or not rootfs.is_dir():
        raise error("bundle_invalid", f"rootfs {spec.rootfs!r} is not an absolute path of a directory in the guest", rootfs=spec.rootfs)
    capabilities = capabilities_of(spec)
    devices, device_rules = devices_of(spec)
    with opened(rootfs) as root:
        user = with_groups(resolve_user(spec.user, root), spec.groups, root)
    check_sysctls(spec)
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": tty,
            "user": user,
            "args": spec.args,
            "env": with_term([PATH_ENV, f"HOSTNAME={hostname}", *spec.env], tty=tty),
            "cwd": spec.cwd or "/",
            "rlimits": rlimits_of(spec),
            "oomScoreAdj": spec.oom_score_adj,
            **security_process(capabilities, spec),
        },
        "root": {"path": str(rootfs), "readonly": not (spec.writable or spec.overlay)},
        **({"hostname": hostname} if spec.uts == "" else {}),
        "mounts": [
            *kernel_mounts(writable=spec.privileged, shm_bytes=spec.shm_bytes),
            *mounts_of(spec, rootfs, layered=layered),
        ],
        "linux": {
            "resources": {"devices": device_rules, **resources_of(spec)},
            "devices": devices,
            "namespaces": namespaces(spec, pid_namespace),
            "sysctl": spec.sysctls,
            **({"cgroupsPath": spec.cgroup_parent} if spec.cgroup_parent else {}),
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
