"""What one who floods does to others: one client's commands to one guest, over tcp with keys.

All are on this machine's cores, and one who floods keeps a core busy, with which no broker has anything to do. So it is measured twice:
where the one who floods gets only the time that nobody else wants (SCHED_IDLE: nearest to a machine of its own), against a calm machine;
and where it competes with the others for the cores, against a process that is as busy and talks to nobody. In each turn a key that is new
floods, so that the beginning of a flood, before its key is cut, is in all of them.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from corral import AsyncClient
from kit.bench import Bench, Row, Timed, turns
from kit.figures import Figure, quantile
from kit.fleet import Daemon
from kit.tcp_fleet import TcpFleet
from rows.events import side_process

CALM = "the same while nobody floods"
BUSY = "the same beside a process that is as busy and talks to nobody"
SETTLE_S = 0.5
"""After this what a flood has left behind is over."""
FLOODS = (
    ("commands", "another client floods with commands"),
    ("guest", "another client floods the same guest"),
    ("events", "another guest floods with events"),
    ("sessions", "another guest floods with heartbeats"),
)
P99_RATIO_MAX = 2.0
Start = Callable[[], Daemon]


async def flood(bench: Bench) -> list[Figure]:
    """p50 and p99 of `list`, one after another, in turns."""
    figures = []
    rounds, seconds = bench.rounds(3, 9), 3.0 if bench.full else 1.0
    for what, who in FLOODS:
        fleet = TcpFleet(bench.fresh("t"), keyed=True)
        starts = iter([_ready_flood(bench, fleet, what, f"f{number}") for number in range(2 * rounds)])
        with fleet:
            async with AsyncClient(fleet.address, keys=fleet.client_keys, timeout_s=30) as client:
                await bench.guests_up(client, 1)
                figures += await _in_turns(bench, client, who, starts, seconds, rounds)
    return figures


def _ready_flood(bench: Bench, fleet: TcpFleet, what: str, name: str) -> Start:
    """To start one with a key of its own, which is accepted now."""
    by_guest = what in ("events", "sessions")
    keys = fleet.accepted(name, "guest" if by_guest else "operator", name if by_guest else "")
    guest = [name] if by_guest else ["g1"] if what == "guest" else []
    return lambda: side_process("kit.flood", what, fleet.address, keys.public, keys.secret, keys.server, *guest, log=bench.fresh("log"))


async def _in_turns(bench: Bench, client: AsyncClient, who: str, starts: Iterator[Start], seconds: float, rounds: int) -> list[Figure]:
    medians: dict[str, list[float]] = {"calm": [], "apart": [], "busy": [], "flooded": []}

    async def p99_ms(name: str, start: Start | None, *, idle: bool = False) -> float:
        process = start() if start is not None else None
        try:
            if process is not None and idle:
                _only_idle_time(process.pid)
            await _calls_ms(client, SETTLE_S)
            if process is not None:
                os.kill(process.pid, signal.SIGCONT)
            taken = await _calls_ms(client, seconds)
        finally:
            if process is not None:
                process.stop(signal.SIGKILL)
        medians[name].append(quantile(taken, 0.5))
        return quantile(taken, 0.99)

    acts: list[Timed] = [
        lambda: p99_ms("calm", None),
        lambda: p99_ms("apart", next(starts), idle=True),
        lambda: p99_ms("busy", lambda: side_process("kit.flood", "nothing", log=bench.fresh("log"))),
        lambda: p99_ms("flooded", next(starts)),
    ]
    calm, apart, busy, flooded = await turns(acts, rounds, warm_up=0)
    target = f"≤ {P99_RATIO_MAX:g} ×"
    return [
        Figure(
            name=f"p99 of a command while {who}, in the time that others leave",
            unit="ms",
            samples=apart,
            baseline=CALM,
            baseline_samples=calm,
            target=target,
            ratio_max=P99_RATIO_MAX,
        ),
        Figure(
            name="  the same, on the same cores",
            unit="ms",
            samples=flooded,
            baseline=BUSY,
            baseline_samples=busy,
            target=target,
            ratio_max=P99_RATIO_MAX,
        ),
        Figure(name="  the same, on the same cores", unit="ms", samples=flooded, baseline=CALM, baseline_samples=calm),
        Figure(name="  p50, on the same cores", unit="ms", samples=medians["flooded"], baseline=CALM, baseline_samples=medians["calm"]),
    ]


def _only_idle_time(pid: int) -> None:
    """All threads of the process run only when a core has nothing else to do."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


async def _calls_ms(client: AsyncClient, seconds: float) -> list[float]:
    """Milliseconds of each `list`, for so long."""
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end_s:
        await client.guest("g1").list()
        taken.append(1000 * (time.perf_counter() - begun))
    return taken


ROWS: dict[str, Row] = {"flood": flood}
