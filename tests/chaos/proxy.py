"""A TCP proxy between the broker and everybody else, which can cut, stall, delay and half-close what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable
from types import TracebackType

PORTS = 6
"""The sockets of a broker: its port and the five after it."""
READ_BYTES = 256 << 10
END_S = 1.0
"""After this what still waits (for a broker that does not answer, or for a delay to pass) is cancelled."""
BACK, FRONT = "127.0.0.1", "127.0.0.2"
"""Where the broker is bound, and where the proxy answers on the same ports (peers are told ports only, and join them to the host they
dialled)."""


def free_port(dice: random.Random) -> int:
    """The first of PORTS consecutive ports that are free on both hosts."""
    while True:
        first = dice.randrange(20_000, 30_000, 10)
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for host in (BACK, FRONT):
                for port in range(first, first + PORTS):
                    probes.enter_context(socket.socket()).bind((host, port))
            return first


class _Pair:
    """One connection of a peer, and the one to the broker that belongs to it."""

    def __init__(self, front: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
        self.writers = {"to broker": back, "from broker": front}
        self.flowing = {"to broker": asyncio.Event(), "from broker": asyncio.Event()}
        self.closed_half = ""
        self.heal()

    def heal(self) -> None:
        """Bytes flow both ways again; what is half closed is closed whole, as its peer would find out in time."""
        for flowing in self.flowing.values():
            flowing.set()
        if self.closed_half:
            self.abort()

    def close_half(self, way: str) -> None:
        """Whoever reads there is told the end; the other way goes on."""
        self.closed_half = way
        with contextlib.suppress(OSError):  # it has just been closed altogether
            self.writers[way].write_eof()

    def abort(self) -> None:
        for writer in self.writers.values():
            writer.transport.abort()


class Proxy:
    """Forwards FRONT:port to BACK:port; runs in a thread of its own. A context manager."""

    def __init__(self, first_port: int, seed: int) -> None:
        self._first_port = first_port
        self._random = random.Random(f"proxy {seed}")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._listening = threading.Event()
        self._pairs: set[_Pair] = set()
        self._accepts = True
        self._ways: tuple[str, ...] = ()  # in which no byte goes through
        self._delay_s = 0.0
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._listening.wait(10), "the proxy does not listen"
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._stop is not None
        self._call(self._stop.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Ends every connection and keeps none until `heal`."""
        self._call(self._cut)

    def stall(self, *ways: str) -> None:
        """Keeps the connections but lets no byte through in these directions ("to broker", "from broker") until `heal`."""
        self._call(lambda: self._stall(ways))

    def delay(self, seconds: float) -> None:
        """Holds every read back for so long."""
        self._delay_s = seconds

    def half_close(self) -> None:
        """Ends one direction of about half of the connections, at random, and lets the other go on."""
        self._call(self._half_close)

    def heal(self) -> None:
        """All as it should be."""
        self._delay_s = 0.0
        self._call(self._heal)

    def _call(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _cut(self) -> None:
        self._accepts = False
        for pair in list(self._pairs):
            pair.abort()

    def _stall(self, ways: tuple[str, ...]) -> None:
        self._ways = ways
        for pair in self._pairs:
            for way in ways:
                pair.flowing[way].clear()

    def _half_close(self) -> None:
        for pair in list(self._pairs):
            if self._random.random() < 0.5:
                pair.close_half(self._random.choice(["to broker", "from broker"]))

    def _heal(self) -> None:
        self._accepts, self._ways = True, ()
        for pair in list(self._pairs):
            pair.heal()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        ports = range(self._first_port, self._first_port + PORTS)
        servers = [await asyncio.start_server(self._join, FRONT, port) for port in ports]
        self._listening.set()
        await self._stop.wait()
        self._heal()
        self._cut()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, late = await asyncio.wait(others, timeout=END_S)
            for task in late:
                task.cancel()
        for server in servers:  # now that nothing is just being accepted: asyncio would leave that open
            server.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._accepts:
                return
            port = writer.get_extra_info("sockname")[1]
            with contextlib.suppress(OSError):  # the broker is down: so is this connection
                to_reader, to_writer = await asyncio.open_connection(BACK, port)
                await self._forward(_Pair(writer, to_writer), reader, to_reader)
        finally:
            writer.transport.abort()

    async def _forward(self, pair: _Pair, front: asyncio.StreamReader, back: asyncio.StreamReader) -> None:
        if not self._accepts:  # the cut came while it was being made
            pair.abort()
            return
        self._pairs.add(pair)
        for way in self._ways:
            pair.flowing[way].clear()
        pumps = [asyncio.ensure_future(self._pump(pair, "to broker", front)), asyncio.ensure_future(self._pump(pair, "from broker", back))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pairs.discard(pair)
            pair.abort()

    async def _pump(self, pair: _Pair, way: str, reader: asyncio.StreamReader) -> None:
        writer = pair.writers[way]
        with contextlib.suppress(ConnectionError):  # either side may go at any time
            while data := await reader.read(READ_BYTES):
                await pair.flowing[way].wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if pair.closed_half != way:  # else it goes nowhere
                    writer.write(data)
                    await writer.drain()
