"""Where the broker is: four places to look, and how its other sockets are named from the one that was dialled."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corral_schemas.errors import CorralError, error

ENVIRONMENT_NAME = "CORRAL_BROKER"


def resolve_address(explicit: str | Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> list[str]:
    """Broker addresses (`tcp://HOST:PORT` or `ipc://PATH`), from the first place that names any: `explicit`, CORRAL_BROKER (comma
    separated), the current context of config.toml, the address file that `corral up` writes.

    Raises guest_unreachable naming all four places where none does, bad_request for an address or a configuration that cannot be used.
    """
    known = os.environ if environment is None else environment
    addresses = _split(explicit) or _split(known.get(ENVIRONMENT_NAME)) or _split(_from_context(known)) or _split(_from_file(known))
    if not addresses:
        raise error(
            "guest_unreachable",
            f"no broker address: no --broker was given, {ENVIRONMENT_NAME} is not set, {config_path(known)} has no current context, "
            f"and there is no {address_path(known)} (start one with `corral up`)",
        )
    for address in addresses:
        check_address(address)
    return addresses


def config_path(environment: Mapping[str, str]) -> Path:
    """The file that holds contexts."""
    home = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".config")
    return Path(home) / "corral" / "config.toml"


def address_path(environment: Mapping[str, str]) -> Path:
    """The file into which `corral up` writes its address: of the system for root, else of the session."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 or not runtime:
        return Path("/run/corral/address")
    return Path(runtime) / "corral" / "address"


def check_address(address: str) -> None:
    """Raises bad_request unless it is tcp://HOST:PORT or ipc://PATH."""
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme == "ipc" and rest:
        return
    if scheme == "tcp" and host and port.isdecimal() and 0 < int(port) < 65_536:
        return
    raise error("bad_request", f"broker address {address!r} is neither tcp://HOST:PORT nor ipc://PATH")


def joined(address: str, part: str) -> str:
    """The address of another socket of the broker dialled at `address`: `part` is a port (tcp), a suffix (ipc) or whole, as in hello."""
    if address.startswith("ipc://"):
        return address + part
    if "://" in part:  # a whole address, where the broker was told what to advertise
        return part
    return f"{address.rpartition(':')[0]}:{part}"


def _split(named: str | Sequence[str] | None) -> list[str]:
    parts = named.split(",") if isinstance(named, str) else list(named or ())
    return [part.strip() for part in parts if part.strip()]


def read_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """config.toml; empty where there is none that may be read. Raises bad_request."""
    path = config_path(environment)
    try:
        return tomllib.loads(path.read_text())
    except OSError:  # no such file, or none that may be read: the next place decides
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as why:
        raise error("bad_request", f"{path} cannot be read: {why}") from why


def _from_context(environment: Mapping[str, str]) -> str | list[str]:
    path, config = config_path(environment), read_config(environment)
    name = config.get("current", "")
    if not name:
        return ""
    context = config.get("contexts", {}).get(name)
    if not isinstance(context, dict) or not context.get("broker"):
        raise _context_missing(path, name)
    broker: str | list[str] = context["broker"]
    return broker


def _context_missing(path: Path, name: str) -> CorralError:
    return error("bad_request", f"{path}: the current context {name!r} has no [contexts.{name}] with a broker", context=name)


def _from_file(environment: Mapping[str, str]) -> str:
    try:
        return address_path(environment).read_text().strip()
    except OSError:  # not there, or not ours to read
        return ""
