"""From `run` of true to its container's deletion, one after the other and 8 at once."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral import AsyncClient
from kit.bare_runc import BareRunc
from kit.bench import MILLISECONDS, Bench, Row, pairs
from kit.figures import Figure

BASELINE = "runc create, start, wait, delete"
AT_ONCE = 8


async def run_true(bench: Bench) -> list[Figure]:
    """An open client runs true, waits for the exit, deletes the container."""
    bare = bench.bare()
    try:
        bare_bundle = bare.bundle("true", ["true"])
        figures: list[Figure] = []
        async with bench.client() as client:
            phases: dict[str, list[float]] = {"run": [], "wait": [], "delete": []}
            bundle, names = bench.bundle("true"), itertools.count(1)
            rounds = bench.rounds(40, 100)
            ours, base = await pairs(
                lambda: _run_wait_delete(client, bundle, f"t{next(names)}", phases), lambda: _bare(bare, bare_bundle), rounds
            )
            figures.append(
                Figure(
                    name="run true, wait, delete (open client)",
                    unit="ms",
                    samples=ours,
                    baseline=BASELINE,
                    baseline_samples=base,
                    target="≤ 1.10 ×",
                    ratio_max=1.10,
                )
            )
            figures += [Figure(name=f"  of that, {phase}", unit="ms", samples=took[-rounds:]) for phase, took in phases.items()]
        async with bench.client(durability="process") as client:
            ours, base = await pairs(
                lambda: _run_wait_delete(client, bundle, f"p{next(names)}", phases),
                lambda: _bare(bare, bare_bundle),
                bench.rounds(15, 50),
            )
            name = "the same with --durability process"
            figures.append(Figure(name=name, unit="ms", samples=ours, baseline=BASELINE, baseline_samples=base))
        return figures
    finally:
        bare.close()


async def _run_wait_delete(client: AsyncClient, bundle: str, name: str, phases: dict[str, list[float]]) -> None:
    begun = time.perf_counter()
    container = await client.guest("g1").run(name, bundle=bundle)
    ran = time.perf_counter()
    await container.init.wait()
    ended = time.perf_counter()
    await container.delete()
    for phase, took_s in (("run", ran - begun), ("wait", ended - ran), ("delete", time.perf_counter() - ended)):
        phases[phase].append(took_s * MILLISECONDS)


def _bare(bare: BareRunc, bundle: Path) -> None:
    bare.run_to_end(bundle)


async def eight_at_once(bench: Bench) -> list[Figure]:
    """Containers per second with 8 under way at any time, bare runc with 8 threads beside it."""
    bare = bench.bare()
    count = bench.rounds(64, 160)
    try:
        bundles = [bare.bundle(f"true{number}", ["true"]) for number in range(AT_ONCE)]
        async with bench.client() as client:
            bundle, names = bench.bundle("true"), itertools.count(1)

            async def ours() -> float:
                return await _corral_per_s(client, bundle, names, count)

            taken, base = await pairs(ours, lambda: _bare_per_s(bare, bundles, count), bench.rounds(3, 7), warm_up=1)
        return [
            Figure(
                name=f"{AT_ONCE} at once",
                unit="containers/s",
                samples=taken,
                baseline=f"{BASELINE}, {AT_ONCE} threads",
                baseline_samples=base,
                target="≥ 0.95 ×",
                ratio_min=0.95,
            )
        ]
    finally:
        bare.close()


async def _corral_per_s(client: AsyncClient, bundle: str, names: "itertools.count[int]", count: int) -> float:
    left = iter(range(count))

    async def lane() -> None:
        for _ in left:
            await _run_wait_delete(client, bundle, f"e{next(names)}", {"run": [], "wait": [], "delete": []})

    begun = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - begun)


def _bare_per_s(bare: BareRunc, bundles: list[Path], count: int) -> float:
    left, lock = iter(range(count)), threading.Lock()

    def lane(bundle: Path) -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            bare.run_to_end(bundle)

    begun = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(lane, bundle) for bundle in bundles]:
            done.result()
    return count / (time.perf_counter() - begun)


ROWS: dict[str, Row] = {"run": run_true, "at-once": eight_at_once}
