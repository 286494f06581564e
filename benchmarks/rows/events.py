"""Events: how soon after a process's death its exit is told, and how many events a second reach a library, none lost."""

import asyncio
import mmap
import os
import struct
import sys
import time
from pathlib import Path

import zmq

from corral import AsyncClient, Event
from kit.bench import Bench, Row
from kit.figures import Figure
from kit.fleet import Daemon

HERE = str(Path(__file__).parent.parent)
REPORT_EVERY = 256
STALL_S_MAX = 30.0


def side_process(*arguments: str, log: Path, own_session: bool = True) -> Daemon:
    """A module of the kit as a process that says when it is ready. Raises FleetError."""
    return Daemon([sys.executable, "-m", *arguments], log, environment={"PYTHONPATH": HERE}, own_session=own_session)


async def exit_latency(bench: Bench) -> list[Figure]:
    """From SIGKILL of a process to its exit event in a subscriber's hands (library, `async for`)."""
    deaths: dict[str, int] = {}
    told: dict[str, tuple[int, int]] = {}
    count = bench.rounds(60, 300)
    async with bench.client() as client:
        container = await client.guest("g1").run("sleeper", bundle=bench.bundle("sleep", "100000"))
        async with client.events(kinds=["exit"], guests=["g1"]) as events:
            for number in range(count):
                process = await container.exec(["sleep", "100000"], process=f"x{number}")
                await asyncio.sleep(0.02)  # what the exec itself set off is over
                deaths[process.process] = time.time_ns()
                os.kill(process.pid, 9)
                async with asyncio.timeout(30):
                    item = await anext(events)
                assert isinstance(item, Event)
                told[item.header.process] = (time.time_ns(), int(item.data["exit"]["exited_ns"]))
        await container.delete(force=True)
    return [
        Figure(
            name="exit event at the subscriber after SIGKILL",
            unit="ms",
            samples=[(told[name][0] - death_ns) / 1e6 for name, death_ns in deaths.items()],
            target="p50 ≤ 4, p99 ≤ 20",
            value_max=4.0,
            p99_max=20.0,
            note="the journal's sync is in between",
        ),
        Figure(name="  of that, until the shim has seen it", unit="ms", samples=[(told[n][1] - ns) / 1e6 for n, ns in deaths.items()]),
    ]


class Window:
    """A number in a shared file: how far the reader is; −1 before it reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("q", -1))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    def set(self, number: int) -> None:
        struct.pack_into("q", self._map, 0, number)


async def exchange(bench: Bench) -> list[Figure]:
    """One guest publishes as fast as its reader takes (a window of 4,000), one library subscriber, none lost."""
    count = bench.rounds(40_000, 100_000)
    ours, bare = [], []
    for _ in range(bench.rounds(3, 5)):
        ours.append(await _library_per_s(bench, count))
        bare.append(await asyncio.to_thread(_bare_per_s, bench, count))
    return [
        Figure(
            name="exchange, 100-byte events, one library subscriber",
            unit="events/s",
            samples=ours,
            baseline="PUB → zmq.proxy (C) → SUB, counted in Python",
            baseline_samples=bare,
            target="≥ 20,000/s",
            value_min=20_000,
            note="none lost",
        )
    ]


async def _library_per_s(bench: Bench, count: int) -> float:
    window = Window(bench.fresh("window"))
    with bench.fleet(guests=0) as fleet:
        arguments = ("kit.sim_guests", fleet.address, "p", "1", "--publish", str(count), "--window", str(window.path))
        publisher = side_process(*arguments, log=bench.fresh("log"))
        try:
            async with AsyncClient(fleet.address) as client:
                await bench.guests_up(client, 1)
                async with client.events(kinds=["started"], guests=["p1"]) as events:
                    window.set(0)
                    begun, got = time.perf_counter(), 0
                    while got < count:
                        async with asyncio.timeout(STALL_S_MAX):
                            item = await anext(events)
                        if not isinstance(item, Event):
                            raise ValueError(f"lost after {got} events: {item}")
                        got += 1
                        if got % REPORT_EVERY == 0:
                            window.set(got)
                    return count / (time.perf_counter() - begun)
        finally:
            publisher.stop()


def _bare_per_s(bench: Bench, count: int) -> float:
    window = Window(bench.fresh("window"))
    place = f"ipc://{bench.fresh('x')}"
    proxy = side_process("kit.bare_zmq", "proxy", place + ".in", place + ".out", log=bench.fresh("log"))
    publisher = side_process("kit.bare_zmq", "publish", place + ".in", str(count), str(window.path), log=bench.fresh("log"))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = context.socket(zmq.SUB)
        socket.rcvhwm, socket.rcvtimeo = 100_000, 30_000
        socket.subscribe(b"event/")
        socket.connect(place + ".out")
        socket.recv_multipart()  # a warm-up message: the way through stands
        window.set(0)
        begun, got = time.perf_counter(), 0
        while got < count:
            if socket.recv_multipart()[1]:
                got += 1
                if got % REPORT_EVERY == 0:
                    window.set(got)
        return count / (time.perf_counter() - begun)
    finally:
        context.destroy(linger=0)
        publisher.stop()
        proxy.stop()


ROWS: dict[str, Row] = {"exit-event": exit_latency, "exchange": exchange}
