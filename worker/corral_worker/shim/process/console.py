"""Terminals: taking the pty master that the runtime hands over, and its size."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable

from corral_worker.shim.base.light import Path
from corral_worker.shim.base.loop import READABLE, Loop


def set_size(master: int, rows: int, columns: int) -> None:
    """Set a terminal's size in characters. Raises OSError."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class ConsoleSocket:
    """Where the runtime sends the pty master to (its ``--console-socket``)."""

    def __init__(self, loop: Loop, path: Path, on_master: Callable[[int], None]) -> None:
        """Listen. Raises OSError."""
        self._loop = loop
        self._path = path
        self._on_master = on_master
        path.unlink(missing_ok=True)
        self._listener: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection: socket.socket | None = None
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(1)
        loop.watch(self._listener.fileno(), READABLE, lambda _events: self.receive())

    def receive(self) -> None:
        """Take the master if it has come."""
        if self._listener is None:
            return
        try:
            if self._connection is None:
                self._connection, _ = self._listener.accept()
                self._connection.setblocking(False)
                self._loop.watch(self._connection.fileno(), READABLE, lambda _events: self.receive())
            _, descriptors, _, _ = socket.recv_fds(self._connection, 4096, 1)
        except BlockingIOError:
            return
        self.close()
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._on_master(descriptor)

    def close(self) -> None:
        """Stop listening, remove the socket."""
        for end in (self._connection, self._listener):
            if end is not None:
                self._loop.unwatch(end.fileno())
                end.close()
        self._connection = self._listener = None
        self._path.unlink(missing_ok=True)
