"""A batch of many items on four workers, beside `xargs -P` over bare runc with the same parallelism in the same run."""

import asyncio
import json
import os
import shlex
import sys
import time
from pathlib import Path

from kit.bare_runc import BareRunc
from kit.bench import Bench, Row, pairs
from kit.bundles import runc
from kit.figures import Figure

GUESTS = 4
AT_ONCE = 8
BASELINE = f"xargs -P {AT_ONCE}: runc create, start, wait, delete"


async def thousand_items(bench: Bench) -> list[Figure]:
    """`corral batch run --on any` as a person types it: plan checked, every target in the joblog, every result kept."""
    count = bench.rounds(200, 1_000)
    bare = bench.bare()
    try:
        bundle = bare.bundle("batch", ["true"])
        lane = _bare_script(bench.fresh("lane").with_suffix(".sh"), bare, bundle)
        with bench.fleet(GUESTS) as fleet:
            async with bench_client(bench, fleet.address):
                ours, base = await pairs(
                    lambda: _corral_per_s(bench, fleet.address, count), lambda: _xargs_per_s(lane, count), bench.rounds(2, 3), warm_up=1
                )
        return [
            Figure(
                name=f"batch of {count} items, window {AT_ONCE}, {GUESTS} workers",
                unit="containers/s",
                samples=ours,
                baseline=BASELINE,
                baseline_samples=base,
                target="≥ 0.90 ×",
                ratio_min=0.90,
            )
        ]
    finally:
        bare.close()


class bench_client:  # noqa: N801 - used as `async with`, like what it stands for
    """Enters once all guests are up."""

    def __init__(self, bench: Bench, address: str) -> None:
        self._bench, self._address = bench, address

    async def __aenter__(self) -> None:
        from corral import AsyncClient

        async with AsyncClient(self._address) as client:
            await self._bench.guests_up(client, GUESTS)

    async def __aexit__(self, *_: object) -> None:
        return
