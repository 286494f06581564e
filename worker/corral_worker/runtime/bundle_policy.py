"""What a configuration may hold in a guest with allowed roots, where the worker does not allow privileged containers.

Corral allows what it knows to stay within the container: docker's default capabilities, the devices that every container has, namespaces of
its own. Every other member is refused by name, also one that a later runtime may understand.
"""

from typing import Any

from corral_schemas.capabilities import DEFAULT
from corral_schemas.errors import error
from corral_worker.runtime.security import not_allowed

_TOP = {"ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "linux", "annotations"}
_LINUX = {
    *("uidMappings", "gidMappings", "sysctl", "resources", "cgroupsPath", "namespaces", "devices", "seccomp", "rootfsPropagation"),
    *("maskedPaths", "readonlyPaths", "mountLabel", "personality", "timeOffsets"),
}
_PROPAGATIONS = ("", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable")
"""Those by which no mount of the container shows in the guest."""
_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
"""null, zero, full, random, urandom, tty, console, ptmx."""
_PTS_MAJOR = 136
_OWN_NAMESPACES = ("mount", "pid")
"""Without them the guest's files can be reached."""
_RUNTIME_ANNOTATIONS = ("org.systemd.property.", "run.oci.", "org.criu.")
"""By these a runtime is told to do more than the configuration says."""


def check_policy(config: dict[str, Any]) -> None:
    """Raise unauthorized for what reaches beyond the container, bundle_invalid for what has another shape than the specification's."""
    linux, process = _object(config, "linux"), _object(config, "process")
    _check_members(config, _TOP, "")
    _check_members(linux, _LINUX, "linux.")
    for name in _object(config, "annotations"):
        if name.startswith(_RUNTIME_ANNOTATIONS):
            raise _refused(f"annotation {name}")
    if linux.get("rootfsPropagation", "") not in _PROPAGATIONS:
        raise _refused("linux.rootfsPropagation")
    if _object(linux, "seccomp").get("listenerPath"):
        raise _refused("linux.seccomp.listenerPath")
    check_process(process)
    _check_namespaces(_objects(linux, "namespaces"))
    for device in _objects(linux, "devices"):
        if not _is_harmless(device):
            raise _refused(f"linux.devices {device.get('path')}")
    for rule in _objects(_object(linux, "resources"), "devices"):
        if rule.get("allow") and rule.get("access") != "m" and not _is_harmless(rule):
            raise _refused("linux.resources.devices")


def check_process(process: dict[str, Any]) -> None:
    """The same for an OCI process alone, as an exec names its members."""
    for kind, names in _object(process, "capabilities").items():
        if not isinstance(names, list | None):
            raise error("bundle_invalid", f"process.capabilities.{kind} is no list")
        if beyond := sorted(str(name) for name in set(map(str, names or [])) - set(DEFAULT)):
            raise _refused(f"capability {beyond[0]}")
    for name in ("apparmorProfile", "selinuxLabel"):
        if process.get(name):
            raise _refused(f"process.{name}")


def _check_namespaces(namespaces: list[dict[str, Any]]) -> None:
    for one in namespaces:
        if one.get("path"):
            raise _refused(f"the {one.get('type')} namespace at {one.get('path')}")
    kinds = [one.get("type") for one in namespaces]
    if missing := [kind for kind in _OWN_NAMESPACES if kind not in kinds]:
        raise _refused(f"a container without a {missing[0]} namespace of its own")


def _is_harmless(device: dict[str, Any]) -> bool:
    """Whether a node or a rule is of the devices that every container has."""
    major, minor = device.get("major"), device.get("minor")
    return device.get("type") == "c" and (major == _PTS_MAJOR or (major, minor) in _DEVICES)


def _check_members(part: dict[str, Any], known: set[str], where: str) -> None:
    if unknown := [name for name, value in part.items() if name not in known and value not in (None, {}, [])]:
        raise _refused(f"{where}{unknown[0][:100]}")


def _object(part: dict[str, Any], name: str) -> dict[str, Any]:
    found = part.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise error("bundle_invalid", f"`{name}` is no object")
    return found


def _objects(part: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = part.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise error("bundle_invalid", f"`{name}` is no list of objects")
    return found


def _refused(what: str) -> Exception:
    return not_allowed(f"with allowed roots, {what[:300]}")
