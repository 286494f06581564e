"""Docker's options of what a container has inside: mounts, namespaces, kernel settings, groups."""

import re
from typing import Any

from corral.cli.fleet.spec_limits import size
from corral.cli.fleet.spec_options import SpecOption

_TRUE, _FALSE = ("true", "1", ""), ("false", "0")


def tmpfs(text: str) -> Any:
    """Read docker's --tmpfs, DIR[:OPTION,…]. Raises ValueError."""
    destination, _, options = text.partition(":")
    if not destination.startswith("/"):
        raise ValueError(f"{text!r} is not DIR[:OPTION,…] with an absolute path")
    return _in_memory(destination, [option for option in options.split(",") if option])


def mount(text: str) -> tuple[str, list[Any]]:
    """Read docker's --mount as (member, [mount]). Raises ValueError."""
    given = dict(part.partition("=")[::2] for part in text.split(","))
    kind = given.pop("type", "volume")
    destination = _one_of(given, "target", "dst", "destination")
    readonly = _flag(given, "readonly", "ro")
    if kind == "volume":
        raise ValueError("there are no volumes: give type=bind,source=DIR,target=DIR (a directory of the guest), or type=tmpfs")
    if kind not in ("bind", "tmpfs"):
        raise ValueError(f"type={kind} is not offered; give bind or tmpfs")
    if not destination.startswith("/"):
        raise ValueError(f"{text!r} has no target=DIR, an absolute path in the container")
    return ("mounts", [_bind(given, destination, readonly)]) if kind == "bind" else ("tmpfs", [_tmpfs(given, destination, readonly)])


def _bind(given: dict[str, str], destination: str, readonly: bool) -> Any:
    from typing import get_args

    from corral_schemas.containers import Mount, Propagation

    source = _one_of(given, "source", "src")
    propagation = given.pop("bind-propagation", "rprivate")
    _check_rest(given)
    if not source.startswith("/"):
        raise ValueError("type=bind needs source=DIR, an absolute path in the guest")
    if propagation not in (known := get_args(Propagation)):
        raise ValueError(f"bind-propagation={propagation} is none of {', '.join(known)}")
    return Mount(source=source, destination=destination, readonly=readonly, propagation=propagation)  # type: ignore[arg-type]


def _tmpfs(given: dict[str, str], destination: str, readonly: bool) -> Any:
    options = ["ro"] if readonly else []
    if "tmpfs-size" in given:
        options.append(f"size={size(given.pop('tmpfs-size'))}")
    if "tmpfs-mode" in given:
        options.append(f"mode={given.pop('tmpfs-mode')}")
    _check_rest(given)
    return _in_memory(destination, options)


def _one_of(given: dict[str, str], *names: str) -> str:
    found = [given.pop(name) for name in names if name in given]
    if len(found) > 1:
        raise ValueError(f"give one of {', '.join(names)}")
    return found[0] if found else ""


def _flag(given: dict[str, str], *names: str) -> bool:
    value = _one_of(given, *names) if any(name in given for name in names) else "false"
    if value not in (*_TRUE, *_FALSE):
        raise ValueError(f"{names[0]}={value} is neither true nor false")
    return value in _TRUE


def _check_rest(given: dict[str, str]) -> None:
    if given:
        raise ValueError(f"{next(iter(given))!r} is not offered here")


def _in_memory(destination: str, options: list[str]) -> Any:
    from corral_schemas.containers import TMPFS_OPTION, Tmpfs

    for option in options:
        if not re.fullmatch(TMPFS_OPTION, option):
            raise ValueError(f"{option!r} is no option of a tmpfs here; give such as size=64m, mode=1777, uid=1, ro, exec")
    return Tmpfs(destination=destination, options=options)


def sysctl(text: str) -> tuple[str, dict[str, str]]:
    """Read NAME=VALUE as (member, table). Raises ValueError."""
    name, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[a-z0-9_./-]+", name, re.ASCII):
        raise ValueError(f"{text!r} is not NAME=VALUE, such as net.core.somaxconn=1024")
    return "sysctls", {name.replace("/", "."): value}


def _pid(text: str) -> str:
    if text != "host" and not re.fullmatch(r"container:.+", text):
        raise ValueError(f"{text!r} is neither host nor container:NAME")
    return text


def _host_or_own(text: str) -> str:
    if text not in ("host", "private"):
        raise ValueError(f"{text!r} is neither host nor private")
    return "host" if text == "host" else ""


OPTIONS = (
    SpecOption(("--mount",), "", "A mount: type=bind,source=DIR,target=DIR[,readonly] or type=tmpfs. Repeatable.", "K=V,…", mount, True),
    SpecOption(("--tmpfs",), "tmpfs", "A file system in memory, such as /run:size=64m,mode=755. Repeatable.", "DIR[:OPT,…]", tmpfs, True),
    SpecOption(("--sysctl",), "", "A kernel setting of its own namespaces. Repeatable.", "NAME=VALUE", sysctl, True),
    SpecOption(("--group-add",), "groups", "A further group, by number or by name in the rootfs. Repeatable.", "GROUP", str, True),
    SpecOption(("--pid",), "pid", "host: the guest's processes; container:NAME: those of that container.", "MODE", _pid),
    SpecOption(("--ipc",), "ipc", "host: the guest's shared memory and queues.", "MODE", _host_or_own),
    SpecOption(("--uts",), "uts", "host: the guest's host name.", "MODE", _host_or_own),
)
