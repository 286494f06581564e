"""The namespaces of a container made from a spec, and the kernel settings that belong to them."""

from typing import Any

from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import error
from corral_worker.runtime.cgroups import cgroup_version

_OF_IPC = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni")
_OF_IPC_TOO = ("kernel.shm_rmid_forced", "fs.mqueue.")


def namespaces(spec: ContainerSpec, pid_namespace: str = "") -> list[dict[str, str]]:
    """Return the namespaces. `pid_namespace`: path of another container's, where the spec asks for it.

    On cgroup v2 a container sees its own cgroup as the top, as docker has it; on v1 the guest's path.
    """
    found = [{"type": "mount"}]
    if pid_namespace:
        found.append({"type": "pid", "path": pid_namespace})
    elif spec.pid == "":
        found.append({"type": "pid"})
    found += [{"type": kind} for kind, mode in (("ipc", spec.ipc), ("uts", spec.uts)) if mode == ""]
    if spec.network == "none":
        found.append({"type": "network"})
    if cgroup_version() == "v2" and not spec.privileged:
        found.append({"type": "cgroup"})
    return found


def check_sysctls(spec: ContainerSpec) -> None:
    """Raise bad_request for a setting that is not the container's own: it would be the whole guest's."""
    for name in spec.sysctls:
        if name in _OF_IPC or name.startswith(_OF_IPC_TOO):
            namespace, own = "--ipc host", spec.ipc == ""
        elif name.startswith("net."):
            namespace, own = "--network host", spec.network == "none"
        else:
            text = f"sysctl {name}: containers have none of their own; only net.*, fs.mqueue.* and those of System V"
            raise error("bad_request", text, sysctl=name)
        if not own:
            raise error("bad_request", f"sysctl {name}: with {namespace} it is the guest's own", sysctl=name)


def with_shared_memory(spec: ContainerSpec, mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mounts; with the guest's ipc namespace its /dev/shm takes the place of the container's. (Message queues follow by it.)"""
    if spec.ipc != "host":
        return mounts
    guests = {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"]}
    return [guests if mount["destination"] == "/dev/shm" else mount for mount in mounts]
