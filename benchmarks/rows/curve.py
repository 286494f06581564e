"""What keys cost, and what one who floods does to others: over tcp on this machine, with keys and without in turns."""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from corral import AsyncClient
from kit.bench import Bench, Row, Timed, turns
from kit.figures import Figure, quantile
from kit.tcp_fleet import TcpFleet
from rows.events import side_process
from rows.stdio import KEEP_ALL, bytes_of, pull_all, writer

IN_FLIGHT = 64
IO_THREADS = (1, 2, 4)
WITHOUT = "the same without keys"
CALM = "the same while nobody floods"


@asynccontextmanager
async def _client(bench: Bench, fleet: TcpFleet, guests: int = 1) -> AsyncIterator[AsyncClient]:
    with fleet:
        async with AsyncClient(fleet.address, keys=fleet.client_keys, timeout_s=120) as client:
            await bench.guests_up(client, guests)
            yield client


async def _calls_per_s(client: AsyncClient, count: int) -> float:
    """`list` to the worker, IN_FLIGHT at a time."""
    left = itertools.repeat(None, count)

    async def caller() -> None:
        for _ in left:
            await client.guest("g1").list()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - begun)


async def _call_ms(client: AsyncClient, count: int) -> float:
    """One after another: the mean."""
    begun = time.perf_counter()
    for _ in range(count):
        await client.guest("g1").list()
    return 1000 * (time.perf_counter() - begun) / count


async def command_path(bench: Bench) -> list[Figure]:
    """`list` from a client to a worker and back."""
    many, few, rounds = bench.rounds(1_500, 6_000), bench.rounds(100, 400), bench.rounds(7, 15)
    async with contextlib.AsyncExitStack() as opened:
        plain = await opened.enter_async_context(_client(bench, TcpFleet(bench.fresh("t"), keyed=False)))
        keyed = await opened.enter_async_context(_client(bench, TcpFleet(bench.fresh("t"), keyed=True)))
        acts: list[Timed] = [
            lambda: _calls_per_s(keyed, many),
            lambda: _calls_per_s(plain, many),
            lambda: _call_ms(keyed, few),
            lambda: _call_ms(plain, few),
        ]
        rate, rate_without, took, took_without = await turns(acts, rounds, warm_up=1)
    return [
        Figure(
            name=f"commands with CURVE, {IN_FLIGHT} in flight",
            unit="per s",
            samples=rate,
            baseline=WITHOUT,
            baseline_samples=rate_without,
            target="≥ 0.95 ×",
            ratio_min=0.95,
        ),
        Figure(name="  one at a time", unit="ms", samples=took, baseline=WITHOUT, baseline_samples=took_without),
    ]


async def stream(bench: Bench) -> list[Figure]:
    """One container's stdout pulled by one client; the broker with 1, 2 and 4 I/O threads."""
    total = 1 << 30 if bench.full else 128 << 20
    args, size = writer(bench, total), bytes_of(bench, total)
    bundle, names = bench.bundle(*args), itertools.count(1)
    figures = []
    for threads in IO_THREADS:
        async with contextlib.AsyncExitStack() as opened:
            clients = [
                await opened.enter_async_context(_client(bench, TcpFleet(bench.fresh("t"), keyed=keyed, io_threads=threads)))
                for keyed in (True, False)
            ]

            def act(client: AsyncClient) -> Callable[[], Awaitable[float]]:
                return lambda: pull_all(client, bundle, f"s{next(names)}", size, KEEP_ALL)

            ours, base = await turns([act(client) for client in clients], bench.rounds(3, 5), warm_up=1)
        figures.append(
            Figure(
                name=f"stdout, {size >> 20} MiB, pulled, CURVE, {threads} I/O threads",
                unit="MB/s",
                samples=ours,
                baseline=WITHOUT,
                baseline_samples=base,
                target="≥ 0.35 ×",
                ratio_min=0.35,
            )
        )
    return figures


async def flood(bench: Bench) -> list[Figure]:
    """p99 of one client's commands to one guest while another key floods; the flood is stopped and let go on in turns."""
    figures = []
    for what, who in (("commands", "another client floods with commands"), ("events", "another guest floods with events")):
        fleet = TcpFleet(bench.fresh("t"), keyed=True)
        keys = fleet.accepted("flood", "guest" if what == "events" else "operator", "g2" if what == "events" else "")
        async with _client(bench, fleet) as client:
            more = ("g2",) if what == "events" else ()
            process = side_process("kit.flood", what, fleet.address, keys.public, keys.secret, keys.server, *more, log=bench.fresh("log"))
            try:
                calm, flooded = await _calm_and_flooded(bench, client, process.pid)
            finally:
                os.kill(process.pid, signal.SIGCONT)
                process.stop(signal.SIGKILL)
        figures.append(
            Figure(
                name=f"p99 of a command while {who}",
                unit="ms",
                samples=flooded,
                baseline=CALM,
                baseline_samples=calm,
                target="≤ 2 ×",
                ratio_max=2.0,
            )
        )
    return figures


async def _calm_and_flooded(bench: Bench, client: AsyncClient, pid: int) -> tuple[list[float], list[float]]:
    """The p99 of each turn, in milliseconds."""
    count = bench.rounds(300, 1_000)

    async def p99_ms(number: signal.Signals) -> float:
        os.kill(pid, number)
        await _call_ms(client, 20)  # what was under way is over, what begins has begun
        taken = [await _call_ms(client, 1) for _ in range(count)]
        return quantile(taken, 0.99)

    acts: list[Timed] = [lambda: p99_ms(signal.SIGSTOP), lambda: p99_ms(signal.SIGCONT)]
    calm, flooded = await turns(acts, bench.rounds(5, 9), warm_up=1)
    return calm, flooded


ROWS: dict[str, Row] = {"curve-commands": command_path, "curve-stream": stream, "flood": flood}
