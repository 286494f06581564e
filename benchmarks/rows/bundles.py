"""A bundle of 100 MB pushed to three guests, beside `cp` through a pipe; what a second push sends; and commands while a push runs."""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from corral import AsyncClient, Packed, pack_bundle
from corral_schemas.bundles import CommitBundleArgs, OpenBundleArgs
from corral_schemas.frames import pack
from kit.bench import Bench, Row, turns
from kit.figures import Figure

GUESTS = 3
MEGABYTE = 1_000_000
BUNDLE_MB = 100
FILES = 20
COMMAND_EVERY_S = 0.005
PATIENCE_S = 300.0


class PushError(Exception):
    """A push that did not reach every guest, or a copy that failed."""


async def push(bench: Bench) -> list[Figure]:
    """From the first question to the answer that all of it is verified and there; its digests were made before, as the file of `cp` was."""
    tree = _tree(bench)
    copied = bench.fresh("copied")
    copied.mkdir()
    source = bench.fresh("source")
    source.write_bytes(b"".join(path.read_bytes() for path in sorted(tree.iterdir())))
    with pack_bundle(tree) as bundle:
        async with bench.client(guests=GUESTS) as client:
            ours, plain, on_disk = await turns(
                [
                    lambda: _pushed_mb_per_s(client, bundle),
                    lambda: _copied_mb_per_s(source, copied),
                    lambda: _copied_mb_per_s(source, copied, "&& sync -f"),
                ],
                bench.rounds(5, 9),
                warm_up=1,
            )
            again = await _second_percent(client, bundle)
    return [
        Figure(
            name=f"push of {BUNDLE_MB} MB to {GUESTS} guests",
            unit="MB/s",
            samples=ours,
            baseline=f"cat | cp /dev/stdin, {GUESTS} at once",
            baseline_samples=plain,
            target="≥ 0.50 ×",
            ratio_min=0.50,
        ),
        Figure(
            name="the same, beside a copy that is on disk",
            unit="MB/s",
            samples=ours,
            baseline=f"cat | cp /dev/stdin && sync, {GUESTS} at once",
            baseline_samples=on_disk,
            note="a push is answered when every byte is verified; the disk gets it within seconds, as with cp alone",
        ),
        Figure(name="second push of the same, bytes sent", unit="% of the first", samples=[again], target="< 1 %", value_max=1.0),
    ]


async def latency(bench: Bench) -> list[Figure]:
    """`state` every 5 ms to the guests that are pushed to: during `corral bundle push`, at rest, and beside others as busy."""
    tree = _tree(bench)
    with bench.fleet(GUESTS) as fleet:
        async with AsyncClient(fleet.address, timeout_s=120) as client:
            await bench.guests_up(client, GUESTS)
            for name in fleet.workers:
                await client.guest(name).create("idle", bundle=bench.bundle("true"))

            async def during_push() -> float:
                await _forget(client)
                async with _cli_push(tree, fleet.address) as over:
                    return await _p99_ms(client, over)

            async def quiet() -> float:
                over = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_later(1.0, over.set_result, None)
                return await _p99_ms(client, over)

            async def beside_digests() -> float:
                async with _digests(tree) as over:
                    return await _p99_ms(client, over)

            busy, still, beside = await turns([during_push, quiet, beside_digests], bench.rounds(3, 11), warm_up=1)
    digests = f"the same while {GUESTS} sha256sum read the same bytes, which talk to nobody"
    compared = (
        ("state during a push, p99", "the same without one", still),
        ("the same, beside a machine as busy", digests, beside),
    )
    return [
        Figure(name=name, unit="ms", samples=busy, baseline=baseline, baseline_samples=samples, target="≤ 2 ×", ratio_max=2.0)
        for name, baseline, samples in compared
    ]


def _tree(bench: Bench) -> Path:
    tree = bench.fresh("tree")
    tree.mkdir()
    for number in range(FILES):
        (tree / f"file{number:02}").write_bytes(random.Random(number).randbytes(BUNDLE_MB * MEGABYTE // FILES))
    return tree


async def _forget(client: AsyncClient) -> None:
    """The guests have nothing of the bundle then, and the disk has written what it had to."""
    for info in await client.guests():
        await client.guest(info.guest).bundles.collect(named=True, idle_s=0)
    await asyncio.to_thread(os.sync)


async def _pushed_mb_per_s(client: AsyncClient, bundle: Packed) -> float:
    await _forget(client)
    begun = time.perf_counter()
    reached = [one.guest async for one in client.push("all", bundle, ["bench"]) if one.ok and one.value and one.value.sent_bytes]
    took_s = time.perf_counter() - begun
    if len(reached) != GUESTS:
        raise PushError(f"only {reached} got the bundle")
    return GUESTS * BUNDLE_MB / took_s


async def _copied_mb_per_s(source: Path, copied: Path, then: str = "") -> float:
    for path in copied.iterdir():
        path.unlink()
    await asyncio.to_thread(os.sync)
    begun = time.perf_counter()
    shells = [
        await asyncio.create_subprocess_exec("sh", "-c", f"cat {source} | cp /dev/stdin {target} {then and f'{then} {target}'}")
        for target in (copied / str(number) for number in range(GUESTS))
    ]
    if any(await asyncio.gather(*(shell.wait() for shell in shells))):
        raise PushError("cp failed")
    return GUESTS * BUNDLE_MB / (time.perf_counter() - begun)


async def _second_percent(client: AsyncClient, bundle: Packed) -> float:
    """Arguments of every command of a second push, beside what the first one sent."""
    first = len(bundle.manifest) + bundle.total_bytes
    asked = len(pack(OpenBundleArgs(digest=bundle.digest, manifest_bytes=len(bundle.manifest))))
    named = len(pack(CommitBundleArgs(digest=bundle.digest, names=["bench"])))
    sent = [one.value.sent_bytes + asked + named async for one in client.push("all", bundle, ["bench"]) if one.value]
    if len(sent) != GUESTS:
        raise PushError("the second push did not reach every guest")
    return 100 * max(sent) / first


def _cli_push(tree: Path, address: str) -> "AbstractAsyncContextManager[asyncio.Future[None]]":
    """A push by a process of its own."""
    program = "from corral.cli.main import main; main()"
    argv = [sys.executable, "-c", program, "bundle", "push", "--broker", address, "--select", "all", "--name", "bench", str(tree)]
    return _running([argv], own_sessions=False)


def _digests(tree: Path) -> "AbstractAsyncContextManager[asyncio.Future[None]]":
    """As many `sha256sum` as guests, each in a session of its own as the workers are."""
    return _running([["sha256sum", *map(str, tree.iterdir())]] * GUESTS, own_sessions=True)


@asynccontextmanager
async def _running(commands: list[list[str]], *, own_sessions: bool) -> "AsyncIterator[asyncio.Future[None]]":
    """These side by side; the future is done when all are over."""
    quiet = asyncio.subprocess.DEVNULL
    processes = [await asyncio.create_subprocess_exec(*argv, stdout=quiet, start_new_session=own_sessions) for argv in commands]
    over: asyncio.Future[None] = asyncio.ensure_future(_ended(commands[0][0], processes))
    async with asyncio.timeout(PATIENCE_S):
        yield over
        await over


async def _ended(program: str, processes: "list[asyncio.subprocess.Process]") -> None:
    if any(statuses := [await process.wait() for process in processes]):
        raise PushError(f"{program} ended with {statuses}")


async def _p99_ms(client: AsyncClient, over: "asyncio.Future[None]") -> float:
    samples: list[float] = []
    names = [info.guest for info in await client.guests()]
    while not over.done():
        begun = time.perf_counter()
        await client.guest(names[len(samples) % GUESTS]).container("idle").state()
        samples.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(COMMAND_EVERY_S)
    return sorted(samples)[int(len(samples) * 0.99)]


ROWS: dict[str, Row] = {"push": push, "push-latency": latency}
