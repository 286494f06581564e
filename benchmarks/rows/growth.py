"""How things grow: with guests (simulated ones, real protocol, real sockets), with containers in a guest, with subscribers."""

import asyncio
import time

from corral import AsyncClient, Event
from corral_schemas.limits import GUEST_DOWN_S
from corral_schemas.queries import ListArgs
from kit.bench import MILLISECONDS, Bench, Row, take
from kit.figures import Figure, MissingError
from kit.fleet import Daemon, Fleet
from kit.sim_guests import DESCRIPTORS_PER_GUEST, allow_descriptors
from kit.usage import KIB, MIB, cpu_shares, private_bytes
from rows.events import side_process

MANY_GUESTS = 10_000
REGISTER_S_MAX = 60.0


async def guests(bench: Bench) -> list[Figure]:
    """A broker with idle guests: memory beside bare sockets with the same connections, CPU, commands, and the return after a restart."""
    figures: list[Figure] = []
    for count in (10, 100, 1_000, MANY_GUESTS) if bench.full else (10, 100, 1_000):
        if not allow_descriptors(DESCRIPTORS_PER_GUEST * count + 2_000):
            raise MissingError(f"descriptors: {count} guests need {DESCRIPTORS_PER_GUEST * count + 2_000} (ulimit -n)")
        figures += await _guests(bench, count)
    return figures


async def _guests(bench: Bench, count: int) -> list[Figure]:
    bare = _bare_memory(bench, count)
    many = count == MANY_GUESTS
    with bench.fleet(guests=0) as fleet:
        assert fleet.broker is not None
        before = private_bytes(fleet.broker.pid)
        peers = side_process("kit.sim_guests", fleet.address, "g", str(count), log=bench.fresh("log"))
        try:
            async with AsyncClient(fleet.address, timeout_s=60) as client:
                await bench.guests_up(client, count, REGISTER_S_MAX)
                await asyncio.sleep(1)
                memory = (private_bytes(fleet.broker.pid) - before) / MIB
                (share,) = await cpu_shares([fleet.broker.pid], bench.rounds(5, 20))
                asked = [await take(lambda number=number: _ask(client, number % count + 1)) for number in range(bench.rounds(200, 1000))]  # type: ignore[misc]
                back_s = await _return_s(bench, fleet, client, count)
        finally:
            peers.stop()
    ms = "ms"
    return [
        Figure(
            name=f"{count} guests: broker's memory for them",
            unit="MiB",
            samples=[memory],
            baseline="bare libzmq sockets, same connections",
            baseline_samples=[bare],
            target="≤ 1.25 ×" if many else "",
            ratio_max=1.25 if many else None,
        ),
        Figure(
            name=f"{count} guests: broker, idle", unit="% of core", samples=[100 * share], target="≤ 15" if many else "", value_max=15 if many else None
        ),
        Figure(name=f"{count} guests: a command", unit=ms, samples=asked, target="p99 ≤ 10" if many else "", p99_max=10 if many else None),
        Figure(
            name=f"{count} guests: all back after a restart", unit="s", samples=[back_s], target="≤ 15" if many else "", value_max=15 if many else None
        ),
    ]


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
    peers: Daemon | None = None
    try:
        before = private_bytes(holder.pid)
        peers = side_process("kit.bare_zmq", "peers", place, str(count), log=bench.fresh("log"))
        return (private_bytes(holder.pid) - before) / MIB
    finally:
        if peers is not None:
            peers.stop()
        holder.stop()


async def containers(bench: Bench) -> list[Figure]:
    """One guest with more and more sleeping containers: list, one more run, private memory of the worker."""
    figures: list[Figure] = []
    steps = (1, 10, 100, 500) if bench.full else (1, 10, 50)
    with bench.fleet() as fleet:
        async with AsyncClient(fleet.address, timeout_s=300) as client:
            await bench.guests_up(client, 1)
            guest, bundle, true = client.guest("g1"), bench.bundle("sleep", "100000"), bench.bundle("true")
            made = []
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
    """From SIGTERM's command to the exit event in the hands of the last of so many subscribers (library, one client each)."""
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
            async with client.events(guests=["g1"], after="", broker_events=False) as events:
                async for _item in events:
                    got += 1
                    if got >= 2 * turns:
                        break
            rates.append(got / (time.perf_counter() - begun))
        await container.delete(force=True)
    return [Figure(name=f"replay of {2 * turns} events from the journal", unit="events/s", samples=rates)]


ROWS: dict[str, Row] = {"guests": guests, "containers": containers, "subscribers": subscribers, "replay": replay}
