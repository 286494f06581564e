"""A Unix stream socket of framed messages, as the worker uses it towards shims and the zygote."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from corral_worker.shim.base.wire import FrameReader, WireError, encode

log = logging.getLogger(__name__)

Body = dict[str, Any]


class MessageStream(asyncio.Protocol):
    """Bytes of a stream socket → messages for one owner, and back."""

    def __init__(self, on_message: Callable[[Body, bytes], None], on_closed: Callable[[], None]) -> None:
        self._on_message, self._on_closed = on_message, on_closed
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []  # of this turn of the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message, blob in self._reader.feed(data):
                self._on_message(message, bytes(blob))
        except WireError as why:
            log.error("socket to a shim or zygote: %s; closed", why)
            if self._transport:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_closed()

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Body, blob: bytes = b"") -> None:
        """Queues a message, to go with all others of this turn of the loop; lost when the connection is."""
        if self._transport is not None and not self._transport.is_closing():
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent.append(encode(message, blob))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    def close(self) -> None:
        """Ends the connection at once, after what is queued here was handed to the kernel as far as it takes it."""
        self._flush()
        if self._transport is not None:
            self._transport.abort()
