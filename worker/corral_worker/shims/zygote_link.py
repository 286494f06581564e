"""The worker's end of the connection to the zygote, made (and the zygote started) when needed."""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path

from corral_worker.shim.base.wire import VERSION
from corral_worker.shim.zygote.launch import ZygoteStartError, start_zygote, wait_for_zygote
from corral_worker.shims.message_stream import Body, MessageStream
from corral_worker.shims.shim_link import ShimGoneError, ShimVersionError

log = logging.getLogger(__name__)

ENDED_WAIT_S = 2.0


class ZygoteLink:
    """Has shims forked; a zygote that ended is started again, by us or (`is_unit`) by the service manager."""

    def __init__(self, run: Path, state: Path, guest: str, *, is_unit: bool = False) -> None:
        self._run, self._state, self._guest, self._is_unit = run, state, guest, is_unit
        self._stream: MessageStream | None = None
        self._forks: dict[str, asyncio.Future[None]] = {}
        self._connecting = asyncio.Lock()
        self._gone: set[str] = set()  # instances whose shims the zygote said dead, until somebody asks
        self._ends: dict[str, asyncio.Future[None]] = {}  # instance -> who waits to hear that

    async def _connected(self) -> MessageStream:
        async with self._connecting:
            if self._stream is not None and self._stream.alive:
                return self._stream
            loop = asyncio.get_running_loop()
            path = str(self._run / "zygote.sock")
            make = partial(MessageStream, self._message, self._closed)
            try:
                _, self._stream = await loop.create_unix_connection(make, path)
            except (FileNotFoundError, ConnectionRefusedError):
                began_s = time.monotonic()
                await asyncio.to_thread(self._bring_up)
                log.info("zygote up after %.0f ms", (time.monotonic() - began_s) * 1000)
                _, self._stream = await loop.create_unix_connection(make, path)
            return self._stream

    def _bring_up(self) -> None:
        if self._is_unit:
            wait_for_zygote(self._run, self._guest)
        else:
            start_zygote(self._run, self._state, self._guest)

    async def start(self) -> None:
        """Makes sure that a zygote is there."""
        await self._connected()

    async def fork(self, instance: str, name: str) -> None:
        """Has a shim forked (or finds the one there is); its socket can be connected to afterwards. Raises ShimGoneError."""
        for attempt in (1, 2):
            try:
                stream = await self._connected()
            except ZygoteStartError as why:
                raise ShimGoneError(str(why)) from why
            future = self._forks.get(instance)
            if future is None:
                future = self._forks[instance] = asyncio.get_running_loop().create_future()
                stream.send({"t": "fork", "instance": instance, "name": name})
            try:
                return await asyncio.shield(future)
            except ConnectionError:
                log.warning("the zygote ended while forking a shim (attempt %d); starting another", attempt)
        raise ShimGoneError("no zygote")

    async def ended(self, instance: str) -> None:
        """Returns once the zygote has said that a dead shim and all it had running are gone; after ENDED_WAIT_S at the latest."""
        if instance in self._gone or not self._alive:
            self._gone.discard(instance)
            return
        future = self._ends.setdefault(instance, asyncio.get_running_loop().create_future())
        await asyncio.wait([future], timeout=ENDED_WAIT_S)
        self._ends.pop(instance, None)
        self._gone.discard(instance)

    @property
    def _alive(self) -> bool:
        return self._stream is not None and self._stream.alive

    def _message(self, message: Body, blob: bytes) -> None:
        kind, instance = message.get("t"), str(message.get("instance", ""))
        future = self._forks.pop(instance, None) if kind in ("forked", "fork_failed") else None
        if future is not None and not future.done():
            if kind == "forked" and int(message.get("version", 1)) > VERSION:  # it must not be asked for anything
                future.set_exception(ShimGoneError(str(ShimVersionError(instance, int(message["version"])))))
            elif kind == "forked":
                future.set_result(None)
            elif (number := message.get("errno")) is not None:
                future.set_exception(OSError(number, str(message.get("reason"))))
            else:
                future.set_exception(ShimGoneError(str(message.get("reason"))))
        elif kind == "shim_gone":
            log.warning("zygote: shim of %s died (wait status %s)", instance, message.get("status"))
            self._gone.add(instance)
            if (waiting := self._ends.get(instance)) is not None and not waiting.done():
                waiting.set_result(None)

    def _closed(self) -> None:
        for future in self._forks.values():
            if not future.done():
                future.set_exception(ConnectionResetError("zygote gone"))
        self._forks.clear()
        for waiting in self._ends.values():
            if not waiting.done():
                waiting.set_result(None)

    def quit(self) -> None:
        """Ends the zygote (shims live on), unless it is a unit of its own."""
        if self._stream is not None and not self._is_unit:
            self._stream.send({"t": "quit"})

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
