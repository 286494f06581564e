"""What one who floods does to others: one client's commands to one guest, over tcp with keys, from the first message of the flood on.

All are on this machine's cores, and one who floods keeps a core busy, with which no broker has anything to do. So it is measured twice:
where the one who floods gets only the time that nobody else wants (SCHED_IDLE: nearest to a machine of its own), against a calm machine;
and where it competes with the others for the cores, against a process that is as busy and talks to nobody. In each turn a key that is new
floods, so that the beginning of a flood, before its key is cut, is in all of them; the first second is told apart, too. All processes are
in one session: SCHED_IDLE ranks a thread only among those of its scheduler group, and each session is one (autogroups, sched(7)).
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from corral import AsyncClient
from kit.bench import Bench, Row, turns
from kit.figures import Figure, quantile
from kit.fleet import Daemon
from kit.tcp_fleet import TcpFleet
from rows.events import side_process

CALM = "the same while nobody floods"
BUSY = "the same beside a process that is as busy and talks to nobody"
CALM_S = 2.5
"""A turn in which nobody floods: nothing changes in it, so it needs not be as long."""
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
    """p99 of `list`, one after another, in turns; on the same cores only in a full run."""
    figures = []
    rounds, seconds = bench.rounds(1, 3), bench.rounds(5, 8)
    for what, who in FLOODS:
        fleet = TcpFleet(bench.fresh("t"), keyed=True, own_sessions=False)
        starts = iter([_ready_flood(bench, fleet, what, f"f{number}") for number in range(2 * rounds)])
        with fleet:
            async with AsyncClient(fleet.address, keys=fleet.client_keys, timeout_s=30) as client:
                await bench.guests_up(client, 1)
                turns_taken = Turns(bench, client, starts, seconds)
                figures += await turns_taken.apart(who, rounds)
                if bench.full:
                    figures += await turns_taken.on_the_same_cores(rounds)
    return figures


def _ready_flood(bench: Bench, fleet: TcpFleet, what: str, name: str) -> Start:
    """To start one with a key of its own, which is accepted now."""
    by_guest = what in ("events", "sessions")
    keys = fleet.accepted(name, "guest" if by_guest else "operator", name if by_guest else "")
    guest = [name] if by_guest else ["g1"] if what == "guest" else []
    arguments = ("kit.flood", what, fleet.address, keys.public, keys.secret, keys.server, *guest)
    return lambda: side_process(*arguments, log=bench.fresh("log"), own_session=False)


class Turns:
    """One client's `list`, one after another, while somebody floods and while nobody does."""

    def __init__(self, bench: Bench, client: AsyncClient, starts: Iterator[Start], seconds: float) -> None:
        self._bench, self._client, self._starts, self._seconds = bench, client, starts, seconds

    async def apart(self, who: str, rounds: int) -> list[Figure]:
        """The one who floods has what time the others leave."""
        first: dict[str, list[float]] = {"calm": [], "flooded": []}
        calm, flooded = await turns(
            [
                lambda: self._p99_ms(None, first["calm"]),
                lambda: self._p99_ms(next(self._starts), first["flooded"], idle=True),
            ],
            rounds,
            warm_up=0,
        )
        name = f"p99 of a command while {who}, in the time that others leave"
        return [
            _figure(name, flooded, CALM, calm, P99_RATIO_MAX),
            _figure("  the same, in the first second", first["flooded"], CALM, first["calm"]),
        ]

    async def on_the_same_cores(self, rounds: int) -> list[Figure]:
        """The one who floods takes its share of the cores."""
        first: dict[str, list[float]] = {"busy": [], "flooded": []}
        busy, flooded = await turns(
            [
                lambda: self._p99_ms(self._busy, first["busy"]),
                lambda: self._p99_ms(next(self._starts), first["flooded"]),
            ],
            rounds,
            warm_up=0,
        )
        return [
            _figure("  on the same cores", flooded, BUSY, busy, P99_RATIO_MAX),
            _figure("  the same, in the first second", first["flooded"], BUSY, first["busy"]),
        ]

    def _busy(self) -> Daemon:
        return side_process("kit.flood", "nothing", log=self._bench.fresh("log"), own_session=False)

    async def _p99_ms(self, start: Start | None, first_second: list[float], *, idle: bool = False) -> float:
        process = start() if start is not None else None
        try:
            if process is not None and idle:
                _only_idle_time(process.pid)
            await _calls_ms(self._client, SETTLE_S)
            if process is not None:
                os.kill(process.pid, signal.SIGCONT)
            taken = await _calls_ms(self._client, 1.0)
            first_second.append(quantile(taken, 0.99))
            taken += await _calls_ms(self._client, (CALM_S if process is None else self._seconds) - 1.0)
        finally:
            if process is not None:
                process.stop(signal.SIGKILL)
        return quantile(taken, 0.99)


def _figure(name: str, samples: list[float], baseline: str, baseline_samples: list[float], ratio_max: float | None = None) -> Figure:
    target = f"≤ {ratio_max:g} ×" if ratio_max is not None else ""
    return Figure(
        name=name, unit="ms", samples=samples, baseline=baseline, baseline_samples=baseline_samples, target=target, ratio_max=ratio_max
    )


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
