"""Docker's options of what a container may do."""

import json
from pathlib import Path
from typing import Any

from corral.cli.fleet.spec_options import SpecOption


def _capability(text: str) -> str:
    from corral_schemas.capabilities import capability

    return capability(text)


def security_opt(text: str) -> tuple[str, Any]:
    """Read docker's --security-opt as (member, value). Raises ValueError."""
    name, separator, value = text.replace(":", "=", 1).partition("=") if "=" not in text else text.partition("=")
    if name == "no-new-privileges" and value in ("", "true", "false"):
        return "no_new_privileges", value != "false"
    if name == "seccomp" and value in ("unconfined", "default", "builtin"):
        return "seccomp", "unconfined" if value == "unconfined" else "default"
    if name == "seccomp" and separator and value:
        return "seccomp", _profile(Path(value))
    raise ValueError(f"{text!r} is not offered; give no-new-privileges, seccomp=unconfined or seccomp=FILE")


def _profile(path: Path) -> dict[str, Any]:
    """The profile in a file of this machine."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as why:
        raise ValueError(f"{path}: {why.strerror}") from why
    except (ValueError, RecursionError) as why:
        raise ValueError(f"{path} is not JSON: {why}") from why
    if not isinstance(found, dict) or not isinstance(found.get("defaultAction"), str):
        raise ValueError(f"{path} is no seccomp profile: it has no defaultAction")
    return found


def device(text: str) -> Any:
    """Read docker's --device, SRC[:DST][:rwm]. Raises ValueError."""
    from corral_schemas.containers import Device

    parts = text.split(":")
    permissions = parts.pop() if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    is_path = all(part.startswith("/") for part in parts)
    if len(parts) not in (1, 2) or not is_path or not permissions or set(permissions) - set("rwm"):
        raise ValueError(f"{text!r} is not SRC[:DST][:PERMISSIONS] with absolute paths and r, w and m")
    return Device(source=parts[0], destination=parts[1] if len(parts) > 1 else "", permissions=permissions)


OPTIONS = (
    SpecOption(("--cap-add",), "cap_add", "Give it a capability, such as NET_ADMIN; ALL gives all. Repeatable.", "CAP", _capability, True),
    SpecOption(("--cap-drop",), "cap_drop", "Take a capability from it; ALL takes all. Repeatable.", "CAP", _capability, True),
    SpecOption(
        ("--security-opt",),
        "",
        "no-new-privileges, seccomp=unconfined, or seccomp=FILE: a profile of docker or the OCI. Repeatable.",
        "OPT",
        security_opt,
        True,
    ),
    SpecOption(("--privileged",), "privileged", "Give it every capability and device; the guest's worker must allow it."),
    SpecOption(("--device",), "devices", "A device of the guest, or all in a directory. Repeatable.", "SRC[:DST][:rwm]", device, True),
)
