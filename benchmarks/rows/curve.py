"""What keys cost: over tcp on this machine, with keys and without in turns."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from corral import AsyncClient
from corral.container import Container
from kit.bench import Bench, Row, Timed, turns
from kit.figures import Figure
from kit.tcp_fleet import TcpFleet
from rows.execs import SLEEPER
from rows.stdio import KEEP_ALL, bytes_of, pull_all, writer

IN_FLIGHT = 64
EXECS_AT_ONCE = 4
IO_THREADS = (1, 2, 4)
"""The broker's; quick: the first and the last."""
WITHOUT = "the same without keys"


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


async def _execs_per_s(container: Container, count: int) -> float:
    """`exec` of true to its exit, EXECS_AT_ONCE at a time."""
    left = itertools.repeat(None, count)

    async def caller() -> None:
        for _ in left:
            await (await container.exec(["true"])).wait()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(EXECS_AT_ONCE)))
    return count / (time.perf_counter() - begun)


async def command_path(bench: Bench) -> list[Figure]:
    """`list`, the cheapest command there is, from a client to a worker and back; and one that does something."""
    many, few, execs, rounds = bench.rounds(1_500, 6_000), bench.rounds(100, 400), bench.rounds(40, 150), bench.rounds(5, 15)
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
        bundle = bench.bundle(*SLEEPER)  # not before: a list tells of every exec
        one, other = [await client.guest("g1").run("sleeper", bundle=bundle) for client in (keyed, plain)]
        done, done_without = await turns([lambda: _execs_per_s(one, execs), lambda: _execs_per_s(other, execs)], rounds, warm_up=1)
        for container in (one, other):
            await container.delete(force=True)
    return [
        Figure(
            name=f"list with CURVE, {IN_FLIGHT} in flight",
            unit="per s",
            samples=rate,
            baseline=WITHOUT,
            baseline_samples=rate_without,
            target="≥ 0.95 ×",
            ratio_min=0.95,
        ),
        Figure(name="  one at a time", unit="ms", samples=took, baseline=WITHOUT, baseline_samples=took_without),
        Figure(
            name=f"exec of true with CURVE, {EXECS_AT_ONCE} at once, exit known",
            unit="per s",
            samples=done,
            baseline=WITHOUT,
            baseline_samples=done_without,
            target="≥ 0.95 ×",
            ratio_min=0.95,
        ),
    ]


async def stream(bench: Bench) -> list[Figure]:
    """One container's stdout pulled by one client; the broker with 1, 2 and 4 I/O threads."""
    total = 1 << 30 if bench.full else 128 << 20
    args, size = writer(bench, total), bytes_of(bench, total)
    bundle, names = bench.bundle(*args), itertools.count(1)
    figures = []
    for threads in IO_THREADS if bench.full else (IO_THREADS[0], IO_THREADS[-1]):
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


ROWS: dict[str, Row] = {"curve-commands": command_path, "curve-stream": stream}
