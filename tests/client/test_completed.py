"""Programs run to their end, as with subprocess.run, on the real broker, worker and runc."""

import asyncio
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import corral
from corral_schemas.queries import Nothing
from corral_testkit.bounded import run
from corral_testkit.real_peers import RealPeers

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPeers]:
    with RealPeers(tmp_path_factory.mktemp("peers")) as started:
        with corral.Client(started.address) as client:
            client.call("g1", "info", Nothing(), retry_unreachable=True)
        yield started


def test_a_program_gives_its_output_and_its_exit_and_leaves_no_container(peers: RealPeers) -> None:
    with corral.Client(peers.address) as client:
        done = client.run("g1", ["sh", "-c", "cat; echo err >&2; exit 7"], rootfs=str(peers.rootfs), stdin=b"in\n" * 100_000)
        assert (done.stdout, done.stderr, done.returncode) == (b"in\n" * 100_000, b"err\n", 7)
        with pytest.raises(corral.ProcessFailedError, match="exited 7: err") as failure:
            done.check()
        assert failure.value.completed is done
        with client.events(kinds=["deleted"], after=corral.Cursor(places={})) as events:
            next(events)  # the worker has deleted it
        assert client.list().containers == []


def test_a_program_that_does_not_read_its_input_is_no_failure(peers: RealPeers) -> None:
    with corral.Client(peers.address) as client:
        assert client.run("g1", ["true"], rootfs=str(peers.rootfs), stdin=b"x" * 3_000_000, check=True).returncode == 0


def test_ctrl_c_in_a_run_removes_the_container_that_was_made_for_it(peers: RealPeers) -> None:
    program = f"""
import corral
with corral.Client({peers.address!r}) as client:
    print("ready", flush=True)
    client.run("g1", ["sleep", "1000"], rootfs={str(peers.rootfs)!r})
"""
    with corral.Client(peers.address) as client:
        for moment_s in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
            with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
                assert running.stdout and running.stderr and running.stdout.readline() == b"ready\n"
                select.select([running.stderr], [], [], moment_s)  # it says nothing before its end: a later moment each time
                running.send_signal(signal.SIGINT)
                assert b"KeyboardInterrupt" in running.stderr.read()
            assert client.guest("g1").list().containers == []


def test_one_that_takes_too_long_is_killed_and_gone(peers: RealPeers) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            with pytest.raises(corral.DeadlineError) as failure:
                await client.run("g1", ["sleep", "1000"], spec=corral.ContainerSpec(rootfs=str(peers.rootfs), args=["x"]), timeout_s=0.3)
            assert failure.value.code == "wait_timeout"
            assert (await client.list()).containers == []

    run(work(), 60)


def test_a_call_that_is_cancelled_leaves_no_container_however_far_it_has_come(peers: RealPeers) -> None:
    async def work() -> None:
        async with corral.AsyncClient(peers.address) as client:
            for delay_s in (0.0, 0.005, 0.02, 0.05, 0.3):
                call = asyncio.ensure_future(client.run("g1", ["sleep", "1000"], rootfs=str(peers.rootfs)))
                await asyncio.wait({call}, timeout=delay_s)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert (await client.list()).containers == []

    run(work(), 60)


def test_in_a_container_that_is_there_programs_run_likewise(peers: RealPeers) -> None:
    with corral.Client(peers.address) as client:
        spec = corral.ContainerSpec(rootfs=str(peers.rootfs), args=["sleep", "1000"])
        container = client.guest("g1").run(spec=spec)
        done = container.run(["sh", "-c", "echo $NAME; wc -c"], env=["NAME=value"], stdin=b"12345", check=True)
        assert done.stdout.split() == [b"value", b"5"]
        with pytest.raises(corral.ProcessFailedError, match="exited 3"):
            container.run(["sh", "-c", "exit 3"], check=True)
        with pytest.raises(corral.DeadlineError):
            container.run(["sleep", "1000"], timeout_s=0.3)
        assert len(container.ps()) == 1
        container.delete(force=True)


def test_output_is_read_from_an_offset_and_only_what_there_is_now(peers: RealPeers) -> None:
    with corral.Client(peers.address) as client:
        spec = corral.ContainerSpec(rootfs=str(peers.rootfs), args=["sh", "-c", "echo one; echo two; exec sleep 1000"])
        container = client.guest("g1").run(spec=spec)
        stdout = container.init.stdout
        lines = stdout.lines()
        assert [next(lines), next(lines)] == [b"one", b"two"]
        assert stdout.read(follow=False) == b"one\ntwo\n"
        assert stdout.read(4, follow=False) == b"two\n"
        assert list(stdout.lines(2, follow=False)) == [b"e", b"two"]
        with pytest.raises(corral.InvalidError, match="one stream's"):
            container.init.combined.read(4)
        container.delete(force=True)
