"""A worker that is killed every second, while many containers run and finish."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from chaos.witness import Job, Witness
from corral import AsyncClient, ContainerSpec, Exit, Mount
from corral.container import Container
from corral_testkit.bounded import run
from corral_testkit.sizes import size
from corral_testkit.system import CorralSystem

CODES = 100
STARTS_AT_ONCE = 8
WORKER_LIVES_S = 1.0
PATIENCE_S = 120.0


@pytest.mark.guarantee(16)
@pytest.mark.timeout(900)
def test_every_byte_and_every_code_of_many_containers_while_the_worker_is_killed_each_second(
    new_corral: Callable[..., CorralSystem],
) -> None:
    count = size(20, 200)
    system = new_corral()
    witness = Witness(system.directory / "witness")
    dice = random.Random(count)
    jobs = [
        Job(f"j{number}", lines=dice.choice([1, 200, 2000]), sleep_s=dice.random() * 3, code=number % CODES, waits=True)
        for number in range(count)
    ]
    ends: list[tuple[Job, Exit, bytes]] = []

    async def work() -> None:
        async with system.async_client(timeout_s=PATIENCE_S) as client:
            containers = await _start(client, system, witness, jobs)
            following = [asyncio.ensure_future(_follow(container, job)) for container, job in zip(containers, jobs, strict=True)]
            killing = asyncio.ensure_future(_kill_each_second(system, following))
            for job in dice.sample(jobs, count):
                witness.release(job)
                await asyncio.sleep(0.05)  # they end one after another, over several lives of the worker
            ends.extend(await asyncio.gather(*following))
            assert await killing >= 2, "the worker was not killed while they ran"

    run(work(), timeout_s=800.0)
    assert len(ends) == count
    for job, end, output in ends:
        assert (end.type, end.code) == ("exited", job.code)
        assert output == job.output()
        assert end.streams["stdout"].total == len(output)
    counts = witness.counts()
    assert counts["start"] == counts["end"] == dict.fromkeys((job.token for job in jobs), 1)


async def _start(client: AsyncClient, system: CorralSystem, witness: Witness, jobs: list[Job]) -> list[Container]:
    some = asyncio.Semaphore(STARTS_AT_ONCE)

    async def one(job: Job) -> Container:
        mount = Mount(source=str(witness.directory), destination="/witness")
        spec = ContainerSpec(rootfs=str(system.rootfs), args=["sh", "-c", job.script()], mounts=[mount])
        async with some:
            return await client.guest(system.names[0]).run(job.token, spec=spec)

    return await asyncio.gather(*(one(job) for job in jobs))


async def _follow(container: Container, job: Job) -> tuple[Job, Exit, bytes]:
    output = await container.init.stdout.read()
    return job, await container.wait(), output


async def _kill_each_second(system: CorralSystem, following: Sequence[asyncio.Future[tuple[Job, Exit, bytes]]]) -> int:
    """Until all have ended; how often it was killed."""
    killed = 0
    while not all(one.done() for one in following):
        await asyncio.to_thread(system.restart_worker, system.names[0])
        killed += 1
        await asyncio.sleep(WORKER_LIVES_S)  # what a worker is given to live
    return killed
