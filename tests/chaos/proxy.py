"""A proxy between the broker's sockets and everybody else, which can cut, stall and delay what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

SUFFIXES = ("", ".w", ".ei", ".eo", ".si", ".so")
"""The sockets of a broker on ipc, beside its address."""
READ_BYTES = 256 << 10


class Proxy:
    """Unix sockets beside `front`, each leading to the one beside `back`; runs in a thread of its own. A context manager."""

    def __init__(self, back: Path, front: Path) -> None:
        self._back, self._front = back, front
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._listening = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._open: asyncio.Event | None = None  # cleared while the link is cut
        self._flowing: asyncio.Event | None = None  # cleared while bytes are held back
        self._delay_s = 0.0
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._listening.wait(10), "the proxy does not listen"
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Closes every connection and accepts none until `heal`."""
        self._call(self._cut)

    def stall(self) -> None:
        """Keeps the connections but lets no byte through until `heal`: a link that went silent."""
        assert self._flowing is not None
        self._call(self._flowing.clear)

    def delay(self, seconds: float) -> None:
        """Holds every read back for so long."""
        self._delay_s = seconds

    def heal(self) -> None:
        """All as it should be."""
        assert self._open is not None and self._flowing is not None
        self._delay_s = 0.0
        self._call(self._open.set)
        self._call(self._flowing.set)

    def _call(self, what: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _cut(self) -> None:
        assert self._open is not None
        self._open.clear()
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._open, self._flowing, self._stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._open.set()
        self._flowing.set()
        servers = [await asyncio.start_unix_server(self._connector(suffix), f"{self._front}{suffix}") for suffix in SUFFIXES]
        self._listening.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        self._cut()
        self._flowing.set()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _connector(self, suffix: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await self._join(f"{self._back}{suffix}", reader, writer)
            finally:
                self._writers.discard(writer)
                writer.transport.abort()

        return connected

    async def _join(self, back: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._open is not None
        if not self._open.is_set():
            return
        try:
            to_reader, to_writer = await asyncio.open_unix_connection(back)
        except OSError:  # the broker is down: so is this connection
            return
        self._writers.add(to_writer)
        pumps = [asyncio.ensure_future(self._pump(reader, to_writer)), asyncio.ensure_future(self._pump(to_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(to_writer)
            to_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._flowing is not None
        with contextlib.suppress(ConnectionError):  # either side may go at any time
            while data := await reader.read(READ_BYTES):
                await self._flowing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
