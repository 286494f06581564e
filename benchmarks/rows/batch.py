"""A batch of many items on four workers, beside `xargs -P` over bare runc with the same parallelism in the same run."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from corral import AsyncClient
from kit.bare_runc import BareRunc
from kit.bench import Bench, Row, pairs
from kit.bundles import runc
from kit.figures import Figure

GUESTS = 4
AT_ONCE = 8
PATIENCE_S = 600.0


class BatchError(Exception):
    """A batch or an xargs that did not do all of its items."""


async def items(bench: Bench) -> list[Figure]:
    """`corral batch run` as a whole process: the plan checked, every target in the joblog before it is sent, every result kept."""
    count = bench.rounds(100, 1_000)
    bare = bench.bare()
    directory = bench.fresh("batch")
    directory.mkdir(parents=True)
    try:
        script = _bare_script(bare, directory)
        plan = _plan(directory, count, bench.bundle("true"))
        with bench.fleet(GUESTS) as fleet:
            async with AsyncClient(fleet.address) as client:
                await bench.guests_up(client, GUESTS)
            ours, base = await pairs(
                lambda: _corral_per_s(plan, fleet.address, count),
                lambda: _xargs_per_s(script, count),
                bench.rounds(2, 5),
                warm_up=1,
            )
        return [
            Figure(
                name=f"batch, {count} items, {GUESTS} workers, {AT_ONCE} at once",
                unit="containers/s",
                samples=ours,
                baseline=f"xargs -P {AT_ONCE}, runc create, start, wait, delete",
                baseline_samples=base,
                target="≥ 0.90 ×",
                ratio_min=0.90,
            )
        ]
    finally:
        bare.close()


def _plan(directory: Path, count: int, bundle: str) -> Path:
    step = {"name": "true", "op": "run", "on": "any", "window": AT_ONCE, "items": {"range": [1, count]}, "args": {"bundle": bundle}}
    path = directory / "plan.yaml"
    path.write_text(json.dumps({"version": 1, "steps": [step]}))
    return path


async def _corral_per_s(plan: Path, address: str, count: int) -> float:
    program = "from corral.cli.main import main; main()"
    argv = [sys.executable, "-c", program, "batch", "run", "--broker", address, "--base", str(plan.parent / "runs"), str(plan)]
    begun = time.perf_counter()
    await _to_end(argv, b"")
    took_s = time.perf_counter() - begun
    log = (plan.parent / "runs" / "last" / "joblog.jsonl").read_bytes()
    if log.count(b'"type":"end"') != count:
        raise BatchError(f"{count} items, and {log.count(b'end')} ends")
    return count / took_s


def _bare_script(bare: BareRunc, directory: Path) -> Path:
    """One item: the container holds the pipe to `cat`, which therefore ends when its process does."""
    bundles = [bare.bundle(f"batch{slot}", ["true"]) for slot in range(AT_ONCE)]
    call = f"{runc()} --root {bundles[0].parent / 'runc'}"
    path = directory / "one-item.sh"
    path.write_text(
        f"{{ {call} create --bundle {bundles[0].parent}/bundle-batch$SLOT item$1 && {call} start item$1; }} </dev/null | cat >/dev/null\n"
        f"exec {call} delete --force item$1\n"  # force: the pipe may close a moment before the process is gone
    )
    return path


async def _xargs_per_s(script: Path, count: int) -> float:
    argv = ["xargs", "-P", str(AT_ONCE), "-n", "1", "--process-slot-var=SLOT", "sh", str(script)]
    begun = time.perf_counter()
    await _to_end(argv, b"".join(b"%d\n" % number for number in range(count)))
    return count / (time.perf_counter() - begun)


async def _to_end(argv: list[str], fed: bytes) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ},
    )
    async with asyncio.timeout(PATIENCE_S):
        _, said = await process.communicate(fed)
    if process.returncode != 0:
        raise BatchError(f"{argv[0]} ended with {process.returncode}: {said.decode()[-500:]}")


ROWS: dict[str, Row] = {"batch": items}
