"""What a reader that stalls does to others: five follow the output of `yes`, and one of them is stopped and let go on in turns."""

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack

from corral import AsyncClient
from kit.bench import Bench, Row, Timed, turns
from kit.figures import Figure, quantile

READERS = 5
NAME = "talker"
GOING = "the same while all five read"


async def stalled(bench: Bench) -> list[Figure]:
    """p99 of `state`, and what an exec takes in that container, while one of five `corral logs -f` is stopped."""
    with bench.fleet() as fleet:
        async with AsyncClient(fleet.address, timeout_s=60) as client, AsyncExitStack() as readers:
            await bench.guests_up(client, 1)
            container = await client.guest("g1").run(NAME, bundle=bench.bundle("yes"))
            pids = [await _reader(readers, fleet.address) for _ in range(READERS)]
            execs: dict[signal.Signals, list[float]] = {signal.SIGSTOP: [], signal.SIGCONT: []}

            async def p99_ms(number: signal.Signals) -> float:
                os.kill(pids[0], number)
                taken = []
                end_s = time.perf_counter() + (4.0 if bench.full else 1.5)
                while (begun := time.perf_counter()) < end_s:
                    await container.state()
                    taken.append(1000 * (time.perf_counter() - begun))
                begun = time.perf_counter()
                await (await container.exec(["true"])).wait()
                execs[number].append(1000 * (time.perf_counter() - begun))
                return quantile(taken, 0.99)

            acts: list[Timed] = [lambda: p99_ms(signal.SIGSTOP), lambda: p99_ms(signal.SIGCONT)]
            stopped, going = await turns(acts, bench.rounds(2, 9), warm_up=1)
            await container.delete(force=True)
    return [
        Figure(
            name="state while one of five readers is stopped, p99",
            unit="ms",
            samples=stopped,
            baseline=GOING,
            baseline_samples=going,
            target="≤ 2 ×",
            ratio_max=2.0,
        ),
        Figure(
            name="  exec of true in that container",
            unit="ms",
            samples=execs[signal.SIGSTOP],
            baseline=GOING,
            baseline_samples=execs[signal.SIGCONT],
            target="≤ 2 ×",
            ratio_max=2.0,
        ),
    ]


async def _reader(readers: AsyncExitStack, address: str) -> int:
    """The pid of a `corral logs -f`; the first turn, which does not count, gives it the time to start."""
    program = "from corral.cli.main import main; main()"
    argv = [sys.executable, "-c", program, "logs", "--broker", address, "-f", f"g1/{NAME}"]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    readers.push_async_callback(process.wait)
    readers.callback(process.kill)
    return process.pid


ROWS: dict[str, Row] = {"stalled": stalled}
