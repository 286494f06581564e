"""What a row is given, and how pairs are taken."""

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from corral import AsyncClient
from kit.bare_runc import BareRunc
from kit.bundles import make_bundle, make_rootfs
from kit.figures import Figure
from kit.fleet import Fleet

MILLISECONDS = 1000

Timed = Callable[[], Awaitable[float | None]] | Callable[[], float | None]
"""Does the thing once; returns its own figure, or None for the milliseconds it took."""
Row = Callable[["Bench"], Awaitable[list[Figure]]]


@dataclass
class Bench:
    """One run of the benchmarks: how thorough, and where."""

    full: bool
    directory: Path
    rootfs: Path
    _numbers: list[int] = field(default_factory=lambda: [0])

    def rounds(self, quick: int, full: int) -> int:
        """How often."""
        return full if self.full else quick

    def fresh(self, what: str) -> Path:
        """A directory that is not there yet, with a short path (sockets go into it)."""
        self._numbers[0] += 1
        return self.directory / f"{what}{self._numbers[0]}"

    def bundle(self, *args: str) -> str:
        """An OCI bundle for Corral."""
        return str(make_bundle(self.fresh("bundle"), self.rootfs, list(args)))

    def bare(self) -> BareRunc:
        """The baseline."""
        return BareRunc(self.fresh("bare"), self.rootfs)

    def fleet(self, guests: int = 1, *, durability: str = "power", runtime: str = "runc", worker_arguments: tuple[str, ...] = ()) -> Fleet:
        """A broker and workers."""
        return Fleet(self.fresh("f"), guests=guests, durability=durability, runtime=runtime, worker_arguments=worker_arguments)

    @asynccontextmanager
    async def client(self, *, guests: int = 1, durability: str = "power") -> AsyncIterator[AsyncClient]:
        """An open client of a fleet made for it."""
        with self.fleet(guests, durability=durability) as fleet:
            async with AsyncClient(fleet.address, timeout_s=120) as client:
                await self.guests_up(client, guests)
                yield client

    async def guests_up(self, client: AsyncClient, count: int, timeout_s: float = 30.0) -> None:
        """Returns once so many guests are registered. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while sum(guest.up for guest in await client.guests()) < count:
                await asyncio.sleep(0.02)


async def take(act: Timed) -> float:
    """One sample."""
    begun = time.perf_counter()
    outcome = act()
    figure = await outcome if inspect.isawaitable(outcome) else outcome
    took_ms = (time.perf_counter() - begun) * MILLISECONDS
    return took_ms if figure is None else figure


async def turns(acts: Sequence[Timed], rounds: int, warm_up: int = 2) -> list[list[float]]:
    """A B C A B C …: whatever else the machine does meets all alike. The first `warm_up` rounds do not count."""
    taken: list[list[float]] = [[] for _ in acts]
    for number in range(-warm_up, rounds):
        for act, samples in zip(acts, taken, strict=True):
            sample = await take(act)
            if number >= 0:
                samples.append(sample)
    return taken


async def pairs(ours: Timed, baseline: Timed, rounds: int, warm_up: int = 2) -> tuple[list[float], list[float]]:
    """Turns of two."""
    first, second = await turns([ours, baseline], rounds, warm_up)
    return first, second


def make_bench(full: bool, directory: Path) -> Bench:
    """Raises MissingError where there is no busybox."""
    return Bench(full=full, directory=directory, rootfs=make_rootfs(directory / "rootfs"))


def rounded(value: float, digits: int = 3) -> str:
    """So many significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"
