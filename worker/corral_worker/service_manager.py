"""The worker under systemd: it says when it serves, that its loop turns, and when it ends."""

import asyncio
import logging
import os
import socket

from corral_schemas.sd_notify import ALIVE, READY, STOPPING, claim_manager

log = logging.getLogger(__name__)


class ServiceManager:
    """Does nothing where no service manager asks."""

    def __init__(self) -> None:
        self._manager = claim_manager(os.environ, os.getpid())

    def ready(self) -> None:
        self._tell(READY)

    async def keep_told(self, stop: asyncio.Event) -> None:
        """Signs of life until `stop` is set. They come from the worker's own loop: one that hangs is killed and started again."""
        while not stop.is_set():
            self._tell(ALIVE)
            try:
                await asyncio.wait_for(stop.wait(), self._manager.beat_s or None)
            except TimeoutError:
                continue
        self._tell(STOPPING)

    def _tell(self, what: bytes) -> None:
        if not self._manager.address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
                to_manager.sendto(what, self._manager.address)
        except OSError as why:
            log.warning("the service manager could not be told %s: %s", what.decode(), why)
