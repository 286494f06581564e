"""The broker under systemd: it says when it serves, that its loop turns, and when it ends."""

import logging
import os
import socket
import time

from corral_schemas.sd_notify import ALIVE, READY, STOPPING, claim_manager

log = logging.getLogger(__name__)


class ServiceManager:
    """Does nothing where no service manager asks."""

    def __init__(self) -> None:
        self._manager = claim_manager(os.environ, os.getpid())
        self._next_beat_s = 0.0

    def ready(self) -> None:
        self._tell(READY)

    def turned(self) -> None:
        """The loop made a turn; told on as often as the manager asks for."""
        if self._manager.beat_s and (now_s := time.monotonic()) >= self._next_beat_s:
            self._next_beat_s = now_s + self._manager.beat_s
            self._tell(ALIVE)

    def stopping(self) -> None:
        self._tell(STOPPING)

    def _tell(self, what: bytes) -> None:
        if not self._manager.address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            try:
                manager.sendto(what, self._manager.address)
            except OSError as why:
                log.warning("cannot tell the service manager %s: %s", what.decode(), why)
