"""How things grow: with guests (simulated ones, real protocol, real sockets), with containers in a guest, with subscribers."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from corral import AsyncClient, Event
from corral.container import Container
from corral_schemas.cursor import Cursor
from corral_schemas.limits import GUEST_DOWN_S
from corral_schemas.queries import ListArgs
from kit.bench import MILLISECONDS, Bench, Row, take
from kit.figures import Figure, MissingError
from kit.fleet import Fleet
from kit.sim_guests import allow_descriptors
from kit.usage import KIB, MIB, cpu_shares, private_bytes
from rows.events import side_process

MANY_GUESTS = 10_000
ONLY_FULL = (100, MANY_GUESTS)
REGISTER_S_MAX = 60.0
GUESTS_PER_PROCESS = 4_000
BROKER_DESCRIPTORS_PER_GUEST = 2
DESCRIPTORS_BESIDE = 200


def guests(wanted: int) -> Row:
    """A broker with so many idle guests: memory beside bare sockets, CPU, commands, and how soon all are back after a restart."""

    async def run(bench: Bench) -> list[Figure]:
        if wanted in ONLY_FULL and not bench.full:
            raise MissingError("--full: a quick run has the rows beside it")
        allowed = allow_descriptors(BROKER_DESCRIPTORS_PER_GUEST * wanted + DESCRIPTORS_BESIDE)
        count = min(wanted, (allowed - DESCRIPTORS_BESIDE) // BROKER_DESCRIPTORS_PER_GUEST)
        if count < 0.9 * wanted:
            raise MissingError(
                f"descriptors: {wanted} guests need {BROKER_DESCRIPTORS_PER_GUEST * wanted + DESCRIPTORS_BESIDE}, not {allowed}"
            )
        return await _guests(bench, count, judged=wanted == MANY_GUESTS)

    return run


async def _guests(bench: Bench, count: int, *, judged: bool) -> list[Figure]:
    bare = _bare_memory(bench, count)
    with bench.fleet(guests=0) as fleet:
        assert fleet.broker is not None
        before = private_bytes(fleet.broker.pid)
        with ExitStack() as peers:
            for first, share in _shares(count):
                arguments = ("kit.sim_guests", fleet.address, "g", str(share), "--first", str(first))
                peers.callback(side_process(*arguments, log=bench.fresh("log")).stop)
            async with AsyncClient(fleet.address, timeout_s=60) as client:
                await bench.guests_up(client, count, REGISTER_S_MAX)
                await asyncio.sleep(1)
                memory = (private_bytes(fleet.broker.pid) - before) / MIB
                (busy,) = await cpu_shares([fleet.broker.pid], bench.rounds(5, 20))
                asked = [await take(partial(_ask, client, number % count + 1)) for number in range(bench.rounds(200, 1000))]
                back_s = await _return_s(bench, fleet, client, count)
    memory_name, name = "bare libzmq sockets, same connections", f"{count} guests"
    figures = [
        Figure(name=f"{name}: broker's memory", unit="MiB", samples=[memory], baseline=memory_name, baseline_samples=[bare]),
        Figure(name=f"{name}: broker, idle", unit="% of core", samples=[100 * busy]),
        Figure(name=f"{name}: a command", unit="ms", samples=asked),
        Figure(name=f"{name}: all back after kill -9 of the broker", unit="s", samples=[back_s]),
    ]
    if not judged:
        return figures
    limits: list[dict[str, Any]] = [
        {"target": "≤ 1.25 ×", "ratio_max": 1.25},
        {"target": "≤ 15", "value_max": 15.0},
        {"target": "p99 ≤ 10", "p99_max": 10.0},
        {"target": "≤ 15", "value_max": 15.0},
    ]
    return [replace(figure, **limit) for figure, limit in zip(figures, limits, strict=True)]


def _shares(count: int) -> list[tuple[int, int]]:
    """First number and count of guests for each process that plays some."""
    return [(first, min(GUESTS_PER_PROCESS, count + 1 - first)) for first in range(1, count + 1, GUESTS_PER_PROCESS)]


async def _ask(client: AsyncClient, number: int) -> None:
    await client.call(f"g{number}", "list", ListArgs())


async def _return_s(bench: Bench, fleet: Fleet, client: AsyncClient, count: int) -> float:
    begun = time.monotonic()
    fleet.restart_broker()
    await bench.guests_up(client, count, GUEST_DOWN_S + REGISTER_S_MAX)
    return time.monotonic() - begun


def _bare_memory(bench: Bench, count: int) -> float:
    """MiB that ROUTER and XSUB need for so many DEALER and PUB peers."""
    place = f"ipc://{bench.fresh('h')}"
    holder = side_process("kit.bare_zmq", "hold", place, str(count), log=bench.fresh("log"))
    with ExitStack() as processes:
        processes.callback(holder.stop)
        before = private_bytes(holder.pid)
        for _, share in _shares(count):
            processes.callback(side_process("kit.bare_zmq", "peers", place, str(share), log=bench.fresh("log")).stop)
        return (private_bytes(holder.pid) - before) / MIB


async def containers(bench: Bench) -> list[Figure]:
    """One guest with more and more sleeping containers: list, one more run, private memory of the worker."""
    figures: list[Figure] = []
    steps = (1, 10, 100, 500) if bench.full else (1, 10, 50)
    with bench.fleet() as fleet:
        async with AsyncClient(fleet.address, timeout_s=300) as client:
            await bench.guests_up(client, 1)
            guest, bundle, true = client.guest("g1"), bench.bundle("sleep", "100000"), bench.bundle("true")
            made: list[Container] = []
            for step in steps:
                while len(made) < step:
                    made.append(await guest.run(f"c{len(made)}", bundle=bundle))
                listed, ran = [], []
                for number in range(bench.rounds(10, 40)):
                    begun = time.perf_counter()
                    await guest.list()
                    listed.append((time.perf_counter() - begun) * MILLISECONDS)
                    begun = time.perf_counter()
                    container = await guest.run(f"r{step}-{number}", bundle=true)
                    await container.init.wait()
                    await container.delete()
                    ran.append((time.perf_counter() - begun) * MILLISECONDS)
                memory = private_bytes(fleet.workers["g1"].pid) / KIB
                figures += [
                    Figure(name=f"{step} containers: list", unit="ms", samples=listed),
                    Figure(name=f"{step} containers: run, wait, delete one more", unit="ms", samples=ran),
                    Figure(name=f"{step} containers: worker, private", unit="KiB", samples=[memory]),
                ]
            await asyncio.gather(*(container.delete(force=True) for container in made))
    return figures


async def subscribers(bench: Bench) -> list[Figure]:
    """From a kill command to the exit event in the hands of the last of so many subscribers (library, one client each)."""
    figures = []
    for count in (1, 10, 100) if bench.full else (1, 10, 50):
        async with bench.client() as client:
            container = await client.guest("g1").run("sleeper", bundle=bench.bundle("sleep", "100000"))
            streams = [client.events(kinds=["exit"], guests=["g1"]) for _ in range(count)]
            for stream in streams:
                await stream.__aenter__()
            took = []
            for number in range(bench.rounds(15, 60)):
                process = await container.exec(["sleep", "100000"], process=f"x{number}")
                begun = time.perf_counter()
                await process.kill(9)
                items = await asyncio.gather(*(anext(stream) for stream in streams))
                took.append((time.perf_counter() - begun) * MILLISECONDS)
                if not all(isinstance(item, Event) for item in items):
                    raise ValueError("an exit was lost")
            for stream in streams:
                await stream.close()
            await container.delete(force=True)
        figures.append(Figure(name=f"{count} subscribers: kill to the last one's exit event", unit="ms", samples=took))
    return figures


async def replay(bench: Bench) -> list[Figure]:
    """Events a second read again from a real journal by a stream that begins at the beginning."""
    async with bench.client() as client:
        container = await client.guest("g1").run("c", bundle=bench.bundle("sleep", "100000"))
        turns = bench.rounds(30, 300)
        for _ in range(turns):
            await container.pause()
            await container.resume()
        rates = []
        for _ in range(bench.rounds(5, 11)):
            begun, got = time.perf_counter(), 0
            async with client.events(guests=["g1"], after=Cursor(places={}), broker_events=False) as events:
                async for _item in events:
                    got += 1
                    if got >= 2 * turns:
                        break
            rates.append(got / (time.perf_counter() - begun))
        await container.delete(force=True)
    return [Figure(name=f"replay of {2 * turns} events from the journal", unit="events/s", samples=rates)]


ROWS: dict[str, Row] = {
    **{f"guests-{count}": guests(count) for count in (10, 100, 1_000, MANY_GUESTS)},
    "containers": containers,
    "subscribers": subscribers,
    "replay": replay,
}
