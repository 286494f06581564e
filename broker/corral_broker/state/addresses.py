"""Where a broker listens: one address given by a person, six sockets made of it."""

import re
from dataclasses import dataclass
from typing import Literal

UNIX_PATH_BYTES_MAX = 107
"""sockaddr_un holds 108 bytes, the last of them zero."""
_TCP = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]/]+):(?P<port>\d+)$")

SocketName = Literal["clients", "workers", "events_in", "events_out", "stdio_in", "stdio_out"]
NAMES: tuple[SocketName, ...] = ("clients", "workers", "events_in", "events_out", "stdio_in", "stdio_out")
SUFFIXES: dict[SocketName, str] = {
    "clients": "",
    "workers": ".w",
    "events_in": ".ei",
    "events_out": ".eo",
    "stdio_in": ".si",
    "stdio_out": ".so",
}
"""What is added to an ipc path; on tcp, the place in NAMES is added to the port."""


class BindError(Exception):
    """The broker cannot listen there; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class BindAddress:
    """A checked --bind."""

    transport: Literal["tcp", "ipc"]
    host: str
    """tcp only, in brackets when it is an IPv6 address."""
    port: int
    """tcp only; 0 lets the system choose each port."""
    path: str
    """ipc only."""

    def endpoint(self, name: SocketName) -> str:
        if self.transport == "ipc":
            return f"ipc://{self.path}{SUFFIXES[name]}"
        return f"tcp://{self.host}:{self.port + NAMES.index(name) if self.port else '*'}"


def parse_bind(text: str) -> BindAddress:
    """Reads `tcp://HOST:PORT` or `ipc://PATH`. Raises BindError."""
    transport, _, rest = text.partition("://")
    if transport == "ipc":
        return BindAddress("ipc", "", 0, _checked_path(rest))
    if transport == "tcp":
        match = _TCP.match(rest)
        if match is None:
            raise BindError(f"bad address {text!r}: tcp needs tcp://HOST:PORT")
        port = int(match["port"])
        if port > 65_535 - len(NAMES) + 1:
            raise BindError(f"bad address {text!r}: ports {port} to {port + len(NAMES) - 1} are needed, the highest is 65535")
        return BindAddress("tcp", match["host"], port, "")
    raise BindError(f"bad address {text!r}: it must begin with tcp:// or ipc://")


def _checked_path(path: str) -> str:
    if not path or path.startswith("@") or path == "*" or "\0" in path:
        raise BindError(f"bad address 'ipc://{path}': ipc needs the path of a file")
    longest = max(SUFFIXES.values(), key=len)
    size = len((path + longest).encode())
    if size > UNIX_PATH_BYTES_MAX:
        raise BindError(f"path too long: {path}{longest} has {size} bytes, a Unix socket's path ends at {UNIX_PATH_BYTES_MAX}")
    return path
