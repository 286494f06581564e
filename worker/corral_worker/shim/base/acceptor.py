"""Taking the connections of a listening socket."""

from __future__ import annotations

import socket
from collections.abc import Callable

from corral_worker.shim.base.linux import is_exhausted, log
from corral_worker.shim.base.loop import READABLE, Loop, Timer

# While no descriptor is left for a connection that waits, its socket stays readable: the loop must not turn in circles over it.
ACCEPT_AGAIN_S = 0.5


class Acceptor:
    """Watches the socket until it is closed. The socket stays its owner's."""

    def __init__(self, loop: Loop, listener: socket.socket, on_connection: Callable[[socket.socket], None]) -> None:
        self._loop, self._listener, self._on_connection = loop, listener, on_connection
        self._again: Timer | None = None
        listener.setblocking(False)
        self._watch()

    def close(self) -> None:
        """Take none any more."""
        self._loop.unwatch(self._listener.fileno())
        if self._again is not None:
            self._again.cancel()

    def _watch(self) -> None:
        self._again = None
        self._loop.watch(self._listener.fileno(), READABLE, self._accept)

    def _accept(self, _: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if not is_exhausted(error):
                raise
            log(f"a connection waits for {ACCEPT_AGAIN_S:g} s: {error}")
            self._loop.unwatch(self._listener.fileno())
            self._again = self._loop.later(ACCEPT_AGAIN_S, self._watch)
            return
        connection.setblocking(False)
        self._on_connection(connection)
