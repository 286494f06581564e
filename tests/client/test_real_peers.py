"""The library against the real broker, the real worker and real runc."""

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.guest import Guest
from corral_schemas.commands import ContainerTarget
from corral_schemas.queries import Nothing
from corral_testkit.bounded import run
from corral_testkit.real_peers import RealPeers

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


@pytest.fixture
def peers(short_dir: Path) -> Iterator[RealPeers]:
    with RealPeers(short_dir) as started:
        yield started


async def ready(client: corral.AsyncClient) -> Guest:
    """The guest, once it has registered."""
    await client.call("g1", "info", Nothing(), retry_unreachable=True)
    return client.guest("g1")


def spec(peers: RealPeers, *args: str) -> corral.ContainerSpec:
    return corral.ContainerSpec(rootfs=str(peers.rootfs), args=list(args))


def test_a_container_from_run_to_delete(peers: RealPeers) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            guest = await ready(client)
            async with client.events(guests=["g1"], broker_events=False) as events:
                container = await guest.run(spec=spec(peers, "sh", "-c", "echo out; echo err >&2; exit 7"))
                end = await container.wait()
                assert (end.type, end.code, corral.shell_status(end)) == ("exited", 7, 7)
                assert await container.init.stdout.read() == b"out\n"
                assert await container.init.stderr.read() == b"err\n"
                assert await client.find(container.name) is not None
                await container.delete()
                kinds = []
                async for item in events:
                    assert isinstance(item, corral.Event)
                    kinds.append(item.kind)
                    if item.kind == "deleted":
                        break
                assert [kind for kind in kinds if kind != "stdio_end"] == ["created", "started", "exit", "deleted"]
            with pytest.raises(corral.NotFoundError):
                await client.find(container.name)
            assert await container.init.stdout.read() == b"out\n"  # output outlives its container

    run(work(), 60)


def test_stdin_goes_through_whole_and_in_order(peers: RealPeers) -> None:
    data = os.urandom(3 << 20)

    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            guest = await ready(client)
            cat = await guest.run("cat", spec=spec(peers, "cat"), stdio=corral.StdioOptions(stdin=True), auto_delete=True)
            reading = asyncio.create_task(cat.init.stdout.read())
            await cat.init.stdin.write(data)
            await cat.init.stdin.close()
            assert await reading == data
            assert (await cat.wait()).code == 0

    run(work(), 60)


def test_what_is_written_after_a_cancelled_write_arrives_whole(peers: RealPeers) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            guest = await ready(client)
            box = await guest.run("box", spec=spec(peers, "sleep", "1000"))
            cancelled = 0
            for round_number in range(40):
                cat = await box.exec(["cat"], stdio=corral.StdioOptions(stdin=True))
                writing = asyncio.create_task(cat.stdin.write(b"first\n"))
                for _ in range(round_number % 20):  # one turn of the loop later each time: before it is sent, under way, answered
                    await asyncio.sleep(0)
                cancelled += writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                await cat.stdin.write(b"second\n")
                await cat.stdin.close()
                assert await cat.stdout.read() in (b"second\n", b"first\nsecond\n")
                await cat.end()
            assert cancelled
            await box.delete(force=True)

    run(work(), 100)


def test_two_writers_of_one_stdin_lose_nothing_of_each_other(peers: RealPeers) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as one, corral.AsyncClient(peers.address) as two:
            guest = await ready(one)
            cat = await guest.run("cat", spec=spec(peers, "cat"), stdio=corral.StdioOptions(stdin=True))
            first, second = cat.init.stdin, two.guest("g1").container("cat").init.stdin
            for number in range(6):
                await first.write(b"first %d\n" % number)
                await second.write(b"second %d\n" % number)
            await second.close()
            expected = b"".join(b"first %d\nsecond %d\n" % (number, number) for number in range(6))
            assert await cat.init.stdout.read() == expected
            await cat.delete(force=True)

    run(work(), 60)


def test_a_deadline_of_a_year_harms_no_container_and_a_longer_one_is_refused(peers: RealPeers) -> None:
    year_s = 365 * 86_400

    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            box = await (await ready(client)).run("box", spec=spec(peers, "sleep", "1000"))
            target = ContainerTarget(container="box")
            await client.call("g1", "pause", target, timeout_s=year_s)
            await client.call("g1", "resume", target, timeout_s=year_s)
            assert (await box.exec(["true"], timeout_s=year_s)).pid
            for odd_s in (year_s + 1, 1e300, math.inf, math.nan):
                for refused in (client.call("g1", "pause", target, timeout_s=odd_s), box.wait(odd_s), box.stop(odd_s)):
                    with pytest.raises(corral.InvalidError, match=r"365 days"):
                        await refused
            assert (await box.state()).status == "running"
            await box.delete(force=True)

    run(work(), 60)


def test_a_reader_far_behind_gets_every_byte(peers: RealPeers) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            guest = await ready(client)
            loud = await guest.run("loud", spec=spec(peers, "sh", "-c", "yes 0123456 | head -c 40000000; echo done >&2"), auto_delete=True)
            await loud.wait()
            output = loud.init.output()
            count = 0
            async for piece in output:
                assert isinstance(piece, corral.Chunk)
                count += len(piece.data) if piece.stream == "stdout" else 0
            assert count == output.ends["stdout"].total == 40_000_000
            assert output.next["stderr"] == 5

    run(work(), 60)


@pytest.mark.parametrize("victim", ["worker", "broker"])
def test_waits_output_and_events_go_through_a_kill(peers: RealPeers, victim: str) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            guest = await ready(client)
            async with client.events(guests=["g1"], broker_events=False) as events:
                made = await asyncio.gather(
                    *(guest.run(f"c{n}", spec=spec(peers, "sh", "-c", f"echo a; sleep 1; echo b{n}; exit {n}")) for n in range(6))
                )
                waits = [asyncio.create_task(container.wait()) for container in made]
                reads = [asyncio.create_task(container.init.stdout.read()) for container in made]
                await asyncio.to_thread(peers.kill, victim)
                await asyncio.to_thread(peers.start_worker if victim == "worker" else peers.start_broker)
                assert [end.code for end in await asyncio.gather(*waits)] == list(range(6))
                assert await asyncio.gather(*reads) == [b"a\nb%d\n" % n for n in range(6)]
                exits: list[str] = []
                seqs: list[int] = []
                while len(exits) < 6:
                    item = await anext(events)
                    assert isinstance(item, corral.Event)
                    seqs.append(item.header.seq)
                    exits += [item.header.container] if item.kind == "exit" else []
                assert sorted(exits) == [f"c{n}" for n in range(6)]
                assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            await ready(client)
            await asyncio.gather(*(container.delete() for container in made))

    run(work(), 60)


def test_the_synchronous_client_does_the_same(peers: RealPeers) -> None:
    with corral.Client(peers.address, retry_unreachable=True) as client:
        container = client.guest("g1").run("short", spec=spec(peers, "echo", "hi"), auto_delete=True)
        assert list(container.init.stdout.lines()) == [b"hi"]
        assert container.wait().code == 0
