"""The worker's ends of the sockets to the shims and to the zygote."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corral_worker.shim.launch import start_zygote
from corral_worker.shim.wire import FrameReader, WireError, encode

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0
Body = dict[str, Any]


class ShimGoneError(Exception):
    """The shim's socket closed: what it was asked is known only from what it left on disk."""


class _Protocol(asyncio.Protocol):
    """Bytes of a stream socket → messages for one owner."""

    def __init__(self, on_message: Callable[[Body, bytes], None], on_closed: Callable[[], None]) -> None:
        self._on_message, self._on_closed = on_message, on_closed
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

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


class ShimLink:
    """One connection to one shim. Requests are joined by (request id, step): asking again is safe."""

    def __init__(self, instance: str, on_notice: Callable[[str, Body], None], on_gone: Callable[[str], None]) -> None:
        self.instance = instance
        self.state: Body = {}
        """The shim's answer to hello."""
        self.closing = False
        """Its container is being deleted: its end is expected."""
        self._on_notice, self._on_gone = on_notice, on_gone
        self._transport: asyncio.Transport | None = None
        self._hello: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._requests: dict[tuple[str, str], asyncio.Future[Body]] = {}
        self._known: dict[tuple[str, str], Body | None] = {}  # what it said at hello: response, or None while pending
        self._growth: dict[str, list[tuple[dict[str, int], asyncio.Future[None]]]] = {}  # process instance -> readers

    async def connect(self, path: Path, generation: int, guest: str) -> None:
        """Connects and says hello. Raises OSError where nobody listens, ShimGoneError when refused or closed."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(lambda: _Protocol(self._message, self._closed), str(path))
        self._transport = transport
        self._send({"t": "hello", "generation": generation, "guest": guest})
        try:
            self.state = await asyncio.wait_for(asyncio.shield(self._hello), HELLO_TIMEOUT_S)
        except (TimeoutError, ShimGoneError):
            transport.abort()
            raise

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _send(self, message: Body, blob: bytes = b"") -> None:
        if self._transport is None or self._transport.is_closing():
            raise ShimGoneError(self.instance)
        self._transport.write(encode(message, blob))

    def knows(self, request_id: str, step: str) -> bool:
        """Whether the shim had this request when we connected."""
        return (request_id, step) in self._known

    async def request(self, request_id: str, step: str, blob: bytes = b"", **body: Any) -> Body:
        """Has a step carried out at most once; returns the response ({"ok": …} or {"error": …}). Raises ShimGoneError."""
        key = (request_id, step)
        future = self._requests.get(key)
        if future is None:
            known = self._known.get(key)
            if known is not None:
                return known
            future = self._requests[key] = asyncio.get_running_loop().create_future()
            try:
                self._send({"t": "request", "id": request_id, "step": step, **body}, blob)
            except ShimGoneError:
                del self._requests[key]
                raise
        return await asyncio.shield(future)

    def acknowledge(self, request_id: str, step: str) -> None:
        """The response is in the journal: the shim may forget it."""
        self._known.pop((request_id, step), None)
        self.tell({"t": "ack_response", "id": request_id, "step": step})

    def tell(self, message: Body) -> None:
        """Sends what needs no answer; lost with the shim, as it may be."""
        if self.alive:
            self._send(message)

    # -- growth of output ---------------------------------------------------------------------------------------------------

    def growth(self, process: str, after: dict[str, int]) -> "asyncio.Future[None]":
        """Done when a stream of the process has more than `after` says, or ended, or the process did, or the shim is gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.alive:
            future.set_result(None)
            return future
        readers = self._growth.setdefault(process, [])
        readers.append((after, future))
        self._arm(process, readers)
        return future

    def _arm(self, process: str, readers: list[tuple[dict[str, int], asyncio.Future[None]]]) -> None:
        least: dict[str, int] = {}
        for after, _ in readers:
            for stream, offset in after.items():
                least[stream] = min(offset, least.get(stream, offset))
        self.tell({"t": "arm", "process": process, "after": least})

    def _grew(self, message: Body) -> None:
        process = str(message["process"])
        streams, waiting = message["streams"], []
        for after, future in self._growth.pop(process, []):
            if future.done():
                continue
            moved = message.get("exited") or any(
                streams.get(stream, {}).get("offset", 0) > offset or not streams.get(stream, {}).get("open", True)
                for stream, offset in after.items()
            )
            if moved:
                future.set_result(None)
            else:
                waiting.append((after, future))
        if waiting:
            self._growth[process] = waiting
            self._arm(process, waiting)

    # -- incoming -------------------------------------------------------------------------------------------------------------

    def _message(self, message: Body, blob: bytes) -> None:
        kind = message.get("t")
        if kind == "response":
            key = (str(message["id"]), str(message["step"]))
            future = self._requests.pop(key, None)
            if future is not None and not future.done():
                future.set_result(message)
        elif kind == "grew":
            self._grew(message)
        elif kind == "state":
            for response in message["responses"]:
                self._known[response["id"], response["step"]] = response
            for pending in message["pending"]:
                self._known.setdefault((pending["id"], pending["step"]), None)
            self._hello.set_result(message)
        elif kind == "refused":
            self._hello.set_exception(ShimGoneError(f"refused: generation {message.get('generation')} has the shim"))
        elif kind != "pong":
            self._on_notice(self.instance, message)

    def _closed(self) -> None:
        gone = ShimGoneError(self.instance)
        if not self._hello.done():
            self._hello.set_exception(gone)
            self._hello.exception()  # connect() may have given up on it already
            return
        for future in self._requests.values():
            if not future.done():
                future.set_exception(gone)
                future.exception()  # its asker may be gone as well
        self._requests.clear()
        for readers in self._growth.values():
            for _, reader in readers:
                if not reader.done():
                    reader.set_result(None)
        self._growth.clear()
        self._on_gone(self.instance)

    def close(self) -> None:
        """Ends the connection without a word; the shim goes on."""
        self._on_gone = lambda instance: None
        if self._transport:
            self._transport.abort()


class Zygote:
    """The connection to the zygote, made (and the zygote started) when needed."""

    def __init__(self, run: Path, state: Path, guest: str) -> None:
        self._run, self._state, self._guest = run, state, guest
        self._transport: asyncio.Transport | None = None
        self._forks: dict[str, asyncio.Future[None]] = {}
        self._connecting = asyncio.Lock()

    async def _connected(self) -> asyncio.Transport:
        async with self._connecting:
            if self._transport is not None and not self._transport.is_closing():
                return self._transport
            loop = asyncio.get_running_loop()
            path = str(self._run / "zygote.sock")
            make = lambda: _Protocol(self._message, self._closed)  # noqa: E731
            try:
                self._transport, _ = await loop.create_unix_connection(make, path)
            except (FileNotFoundError, ConnectionRefusedError):
                began_s = time.monotonic()
                await asyncio.to_thread(start_zygote, self._run, self._state, self._guest)
                log.info("zygote started in %.0f ms", (time.monotonic() - began_s) * 1000)
                self._transport, _ = await loop.create_unix_connection(make, path)
            return self._transport

    async def start(self) -> None:
        """Makes sure that a zygote is there."""
        await self._connected()

    async def fork(self, instance: str, name: str) -> None:
        """Has a shim forked (or finds the one there is); its socket can be connected to afterwards. Raises ShimGoneError."""
        for attempt in (1, 2):
            transport = await self._connected()
            future = self._forks.get(instance)
            if future is None:
                future = self._forks[instance] = asyncio.get_running_loop().create_future()
                transport.write(encode({"t": "fork", "instance": instance, "name": name}))
            try:
                return await asyncio.shield(future)
            except ConnectionError:
                log.warning("the zygote ended while forking a shim (attempt %d); starting another", attempt)
        raise ShimGoneError("no zygote")

    def _message(self, message: Body, blob: bytes) -> None:
        kind, instance = message.get("t"), str(message.get("instance", ""))
        future = self._forks.pop(instance, None) if kind in ("forked", "fork_failed") else None
        if future is not None and not future.done():
            if kind == "forked":
                future.set_result(None)
            else:
                future.set_exception(ShimGoneError(str(message.get("reason"))))
        elif kind == "shim_gone":
            log.warning("zygote: shim of %s died (wait status %s)", instance, message.get("status"))

    def _closed(self) -> None:
        for future in self._forks.values():
            if not future.done():
                future.set_exception(ConnectionResetError("zygote gone"))
        self._forks.clear()

    def quit(self) -> None:
        """Ends the zygote (shims live on)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode({"t": "quit"}))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
