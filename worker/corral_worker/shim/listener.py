"""Finding out who listens on a unix socket."""

from __future__ import annotations

import socket

from corral_worker.shim.base.light import Path
from corral_worker.shim.link import peer_credentials


def pid_of_listener(path: Path) -> int | None:
    """The pid of the process that listens there, None when nobody does. Raises OSError other than that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        return peer_credentials(probe)[0]
