"""What a container made from a spec may do: its capabilities, its filter of system calls, what is hidden, and what the guest must allow."""

from pathlib import Path
from typing import Any

from corral_schemas.capabilities import ALL, DEFAULT, KNOWN, capability, capability_set
from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import error
from corral_worker.runtime.containment import Roots
from corral_worker.runtime.inside import READONLY_PATHS, masked_paths
from corral_worker.runtime.seccomp import default_filter, filter_of_profile

_INIT_STATUS = Path("/proc/1/status")
_FILTERS = Path("/proc/sys/kernel/seccomp")


def check_allowed(spec: ContainerSpec, roots: Roots, *, privileged: bool) -> None:
    """Raise unauthorized for what this guest's worker does not allow. `privileged`: it was started with --allow-privileged.

    Who may name any bundle may have every capability by one. So only --privileged asks for the worker's consent there; with allowed roots
    all that reaches beyond docker's default does.
    """
    if privileged:
        return
    if spec.privileged:
        raise not_allowed("--privileged")
    if roots and (beyond := _beyond_default(spec)):
        raise not_allowed(f"with allowed roots, {beyond}")


def not_allowed(what: str) -> Exception:
    """The error for what only a worker with --allow-privileged allows."""
    return error("unauthorized", f"{what} is not allowed in this guest; its worker allows it with `corral worker --allow-privileged`")


def _beyond_default(spec: ContainerSpec) -> str:
    """The first option that gives more than docker's default; empty: none does."""
    if not set(capabilities_of(spec)) <= set(DEFAULT):
        return "--cap-add"
    if spec.seccomp != "default":
        return "--security-opt seccomp"
    if spec.devices:
        return "--device"
    if spec.pid == "host" or spec.ipc or spec.uts:
        return "--pid, --ipc or --uts host"
    if spec.oom_score_adj < 0:
        return "--oom-score-adj below 0"
    return ""


def capabilities_of(spec: ContainerSpec) -> list[str]:
    """Return the spec's capabilities, of those that the guest itself has. Raises bad_request, also for one by name that it has not."""
    try:
        wanted = list(KNOWN) if spec.privileged else capability_set(spec.cap_add, spec.cap_drop)
        named = {capability(text) for text in spec.cap_add} - {ALL}
    except ValueError as why:
        raise error("bad_request", str(why)) from why
    has = _guests_capabilities()
    if lacking := [name for name in wanted if name in named and name not in has]:
        raise error("bad_request", f"this guest has no {lacking[0]} itself, so its containers cannot have it", capability=lacking[0])
    return [name for name in wanted if name in has]


def _guests_capabilities() -> set[str]:
    """What the guest's init may have: all that the kernel knows, but for guests that are containers themselves."""
    lines = dict(line.split(":", 1) for line in _INIT_STATUS.read_text().splitlines())
    mask = int(lines["CapBnd"], 16)
    return {name for number, name in enumerate(KNOWN) if mask >> number & 1}


def security_process(capabilities: list[str], spec: ContainerSpec) -> dict[str, Any]:
    """Return the members of the OCI `process`."""
    return {
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": spec.no_new_privileges,
    }


def security_linux(capabilities: list[str], spec: ContainerSpec) -> dict[str, Any]:
    """Return the members of the OCI `linux`. Raises bad_request for a profile that is none."""
    if spec.privileged:
        return {}
    found: dict[str, Any] = {"maskedPaths": masked_paths(), "readonlyPaths": READONLY_PATHS}
    if isinstance(spec.seccomp, dict):
        found["seccomp"] = filter_of_profile(spec.seccomp, capabilities)
    elif spec.seccomp == "default" and _FILTERS.exists():
        found["seccomp"] = default_filter(capabilities)
    return found
