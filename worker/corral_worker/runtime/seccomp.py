"""A container's filter of system calls: the default one, none, or a profile in the form of docker or of the OCI."""

import errno
import platform
import re
from collections.abc import Collection
from typing import Any

from corral_schemas.errors import error
from corral_worker.runtime.seccomp_rules import (
    ALWAYS,
    NAMESPACE_FLAGS,
    SOCKET_FAMILIES,
    UNLESS,
    UNLESS_ANY,
)

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
}
"""The machine's own calls and its 32-bit ones; other machines: their own alone. A call of another kind ends the process."""
_LOW_32_BITS = 0xFFFF_FFFF
"""All that the kernel reads of an int."""
_DOCKERS_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def default_filter(capabilities: Collection[str], machine: str = "") -> dict[str, Any]:
    """Return the OCI `linux.seccomp` for a container that has these capabilities. `machine`: as `uname -m`; empty: this one."""
    machine = machine or platform.machine()
    denied = [*ALWAYS]
    for capability, names in UNLESS.items():
        denied += names if capability not in capabilities else ()
    denied += [name for name, lifts in UNLESS_ANY.items() if lifts.isdisjoint(capabilities)]
    rules = [_deny(sorted(denied))]
    rules += [_deny(["socket"], 0, _LOW_32_BITS, family) for family in SOCKET_FAMILIES]
    if "CAP_SYS_ADMIN" not in capabilities:
        flags_at = 1 if machine == "s390x" else 0
        rules += [_deny(["clone"], flags_at, flag, flag) for flag in NAMESPACE_FLAGS]
        # clone3 has its flags where no filter can look: as if the kernel had none, so that programs use clone
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    architectures = {"architectures": _ARCHITECTURES[machine]} if machine in _ARCHITECTURES else {}
    return {"defaultAction": "SCMP_ACT_ALLOW", **architectures, "syscalls": rules}


def _deny(names: list[str], index: int = -1, mask: int = 0, value: int = 0) -> dict[str, Any]:
    """A rule; with an index, only where that argument and the mask give the value."""
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}
    if index >= 0:
        rule["args"] = [{"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]
    return rule


def filter_of_profile(profile: dict[str, Any], capabilities: Collection[str], machine: str = "") -> dict[str, Any]:
    """Return the OCI `linux.seccomp` of a profile: docker's form with what holds for these capabilities and this machine, or the OCI's.

    Raises bad_request for a profile without a defaultAction, and for members of the wrong kind.
    """
    machine = machine or platform.machine()
    found = {name: value for name, value in profile.items() if name not in ("archMap", "syscalls")}
    if not isinstance(found.get("defaultAction"), str):
        raise error("bad_request", "the seccomp profile has no defaultAction (a string such as SCMP_ACT_ERRNO)")
    if "archMap" in profile and "architectures" not in found:
        found["architectures"] = _mapped(profile["archMap"], machine)
    rules = profile.get("syscalls", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise error("bad_request", "the seccomp profile's syscalls are no list of objects")
    found["syscalls"] = [_plain(rule) for rule in rules if _holds(rule, capabilities, machine)]
    return found


def _mapped(arch_map: Any, machine: str) -> list[str]:
    """The architectures of the entry that is for this machine."""
    own = _ARCHITECTURES.get(machine, [f"SCMP_ARCH_{machine.upper()}"])[0]
    for entry in arch_map if isinstance(arch_map, list) else []:
        if isinstance(entry, dict) and entry.get("architecture") == own:
            return [own, *(entry.get("subArchitectures") or [])]
    return [own]


def _plain(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as the OCI has it. Docker's older profiles have one `name` a rule."""
    found = {key: value for key, value in rule.items() if key in ("names", "action", "errnoRet", "args") and value is not None}
    if "name" in rule:
        found["names"] = [rule["name"]]
    return found


def _holds(rule: dict[str, Any], capabilities: Collection[str], machine: str) -> bool:
    """Whether a rule's conditions are met: all of `includes`, and none of `excludes`."""
    wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
    if not isinstance(wanted, dict) or not isinstance(unwanted, dict):
        raise error("bad_request", "the seccomp profile has includes or excludes that are no objects")
    names = {machine, _DOCKERS_MACHINES.get(machine, machine)}
    if set(wanted.get("caps") or []) - set(capabilities) or set(unwanted.get("caps") or []) & set(capabilities):
        return False
    if (wanted.get("arches") and names.isdisjoint(wanted["arches"])) or not names.isdisjoint(unwanted.get("arches") or []):
        return False
    oldest = str(wanted.get("minKernel") or "0.0")
    return kernel_version() >= _version(oldest)


def kernel_version() -> tuple[int, ...]:
    """Return the first two numbers of the kernel's release."""
    return _version(platform.release())


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", text)[:2])
