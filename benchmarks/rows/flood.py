"""What one who floods does to others: one client's commands to one guest, over tcp with keys.

All are on this machine's cores: the one who floods, the broker, the guest and the one whose commands are timed. So what the flood costs in
CPU (its own, and the broker's for turning it down) counts in full, not only the queues; on machines of their own the others feel less.
"""

import os
import signal
import time

from corral import AsyncClient
from kit.bench import Bench, Row, Timed, turns
from kit.figures import Figure, quantile
from kit.tcp_fleet import TcpFleet
from rows.events import side_process

CALM = "the same while nobody floods"
SETTLE_S = 0.7
"""After this what the flood has left behind is over."""
FLOODS = (
    ("commands", "another client floods with commands"),
    ("guest", "another client floods the same guest"),
    ("events", "another guest floods with events"),
)


async def flood(bench: Bench) -> list[Figure]:
    """p50 and p99 of `list`, one after another; the flood is stopped and let go on in turns."""
    figures = []
    for what, who in FLOODS:
        fleet = TcpFleet(bench.fresh("t"), keyed=True)
        keys = fleet.accepted("flood", "guest", "g2") if what == "events" else fleet.accepted("flood", "operator")
        guest = {"commands": [], "guest": ["g1"], "events": ["g2"]}[what]
        with fleet:
            async with AsyncClient(fleet.address, keys=fleet.client_keys, timeout_s=30) as client:
                await bench.guests_up(client, 1)
                process = side_process(
                    "kit.flood", what, fleet.address, keys.public, keys.secret, keys.server, *guest, log=bench.fresh("log")
                )
                os.kill(process.pid, signal.SIGSTOP)
                try:
                    figures += await _in_turns(bench, client, who, process.pid)
                finally:
                    process.stop(signal.SIGKILL)
    return figures


async def _in_turns(bench: Bench, client: AsyncClient, who: str, pid: int) -> list[Figure]:
    seconds = 4.0 if bench.full else 1.5
    medians: dict[signal.Signals, list[float]] = {signal.SIGSTOP: [], signal.SIGCONT: []}

    async def p99_ms(number: signal.Signals) -> float:
        os.kill(pid, number)
        if number == signal.SIGSTOP:  # of a flood, what it begins with counts
            await _calls_ms(client, SETTLE_S)
        taken = await _calls_ms(client, seconds)
        medians[number].append(quantile(taken, 0.5))
        return quantile(taken, 0.99)

    acts: list[Timed] = [lambda: p99_ms(signal.SIGSTOP), lambda: p99_ms(signal.SIGCONT)]
    calm, flooded = await turns(acts, bench.rounds(3, 9), warm_up=0)
    return [
        Figure(
            name=f"p99 of a command while {who}",
            unit="ms",
            samples=flooded,
            baseline=CALM,
            baseline_samples=calm,
            target="≤ 2 ×",
            ratio_max=2.0,
        ),
        Figure(
            name="  p99 of the turn in which it begins, until its key is turned away",
            unit="ms",
            samples=flooded[:1],
            baseline=CALM,
            baseline_samples=calm,
        ),
        Figure(name="  p50", unit="ms", samples=medians[signal.SIGCONT], baseline=CALM, baseline_samples=medians[signal.SIGSTOP]),
    ]


async def _calls_ms(client: AsyncClient, seconds: float) -> list[float]:
    """Milliseconds of each `list`, for so long."""
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end_s:
        await client.guest("g1").list()
        taken.append(1000 * (time.perf_counter() - begun))
    return taken


ROWS: dict[str, Row] = {"flood": flood}
