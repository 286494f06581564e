"""Output end to end on real containers: every byte, then the end, then the exit, whoever is killed, slow, stopped or late (G4, 5, 7, 8)."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral import Chunk, Client, Gap, Mount, StdioOptions
from corral.sync.container import Container, Process
from corral.sync.guest import Guest
from corral_schemas.commands import RunArgs
from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import CorralError
from corral_schemas.stdio import ReadStdioArgs, ReadStdioReply
from corral_testkit.shim_driver import wait_until
from corral_testkit.sizes import size
from corral_testkit.system import CorralSystem

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]

MIB = 1 << 20
SCALED_MIB, FULL_MIB = 24, 100
Numbers = Callable[[int], ContainerSpec]
LINE = b"%015d\n"
READER = """
import sys
import corral
with corral.Client(sys.argv[1], retry_unreachable=True) as client:
    process = client.guest(sys.argv[2]).container(sys.argv[3]).init
    with open(sys.argv[4], "ab", buffering=0) as kept:
        for piece in process.output(stdout=kept.tell(), stderr=None):
            kept.write(piece.data)
"""


@pytest.fixture
def client(corral: CorralSystem) -> Client:
    return corral.client(retry_unreachable=True)


@pytest.fixture
def guest(corral: CorralSystem, client: Client) -> Guest:
    return client.guest(corral.names[0])


def numbered(size: int) -> bytes:
    """Lines of 16 bytes that count, cut off at a size."""
    return b"".join(LINE % number for number in range(size // 16 + 1))[:size]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a file that containers print the beginning of: no two places in it are alike."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "numbers").write_bytes(numbered(size(SCALED_MIB, FULL_MIB) * MIB))
    return directory


@pytest.fixture
def numbers(corral: CorralSystem, data_dir: Path) -> Callable[[int], ContainerSpec]:
    """A program that prints so many bytes of `numbered`."""

    def spec(size: int) -> ContainerSpec:
        mount = Mount(source=str(data_dir), destination="/data")
        return ContainerSpec(rootfs=str(corral.rootfs), args=["head", "-c", str(size), "/data/numbers"], mounts=[mount])

    return spec


def collected(process: Process, pieces: Iterator[Chunk | Gap] | None = None) -> tuple[bytes, list[Gap]]:
    """The bytes and gaps of stdout; AssertionError where one does not follow on another."""
    data, gaps, at = [], [], 0
    for piece in pieces if pieces is not None else process.output(stderr=None):
        if isinstance(piece, Gap):
            assert piece.start == at
            gaps.append(piece)
            at = piece.end
        else:
            assert piece.offset == at
            data.append(piece.data)
            at += len(piece.data)
    return b"".join(data), gaps


# -- guarantee 4 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(4)
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("powers", [(20, 20), (23, 27)])
def test_a_slow_reader_gets_every_byte_before_the_exit_and_both_report_the_same_end(
    corral: CorralSystem, guest: Guest, powers: tuple[int, int], beyond: int
) -> None:
    length = (1 << size(*powers)) + beyond
    container = guest.run("sizes", spec=corral.spec("head", "-c", str(length), "/dev/urandom"))
    crc = total = 0
    output = container.init.output(stderr=None)
    for piece in output:
        assert isinstance(piece, Chunk) and piece.offset == total
        crc, total = zlib.crc32(piece.data, crc), total + len(piece.data)
        if total == len(piece.data):
            container.wait()  # it goes on at the first piece only once all is over
    end = container.wait()
    told = end.streams["stdout"]
    assert (told.state, told.total, told.crc) == ("closed", length, crc)
    assert total == length


# -- guarantee 5 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(5)
def test_a_small_cap_under_much_output_is_bytes_and_gaps_that_make_the_total(client: Client, guest: Guest, numbers: Numbers) -> None:
    length = size(SCALED_MIB, FULL_MIB) * MIB
    with client.events(guests=[guest.name], kinds=["stdio_gap", "exit"], broker_events=False) as events:
        container = guest.run("capped", spec=numbers(length), stdio=StdioOptions(cap_bytes=MIB))
        announced = 0
        for item in events:
            if getattr(item, "kind", "") == "exit":
                break
            announced += item.data["end"] - item.data["start"]  # type: ignore[union-attr]
    data, gaps = collected(container.init)
    assert len(data) + sum(gap.end - gap.start for gap in gaps) == container.wait().streams["stdout"].total == length
    assert {gap.reason for gap in gaps} == {"cap"} and announced == sum(gap.end - gap.start for gap in gaps)
    assert data == numbered(length)[-len(data) :]


def test_a_spool_segment_removed_by_hand_is_a_gap_and_what_follows_is_still_checked(
    corral: CorralSystem, guest: Guest, numbers: Numbers
) -> None:
    size = 20 * MIB
    container = guest.run("removed", spec=numbers(size))
    assert container.wait().code == 0
    directory = corral.state_dir(guest.name) / "instances" / container.instance / container.init.instance
    segments = sorted(directory.glob("*.spool"))
    assert len(segments) >= 3
    segments[1].unlink()
    data, gaps = collected(container.init)
    (gap,) = gaps
    assert gap.reason == "segment_missing"
    whole = numbered(size)
    assert data == whole[: gap.start] + whole[gap.end :]
    with pytest.raises(CorralError) as refused:
        container.init.stdout.read()
    assert refused.value.code == "cursor_too_old"


# -- guarantee 7 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(7)
def test_a_stopped_reader_harms_neither_the_container_nor_other_readers(corral: CorralSystem, guest: Guest, tmp_path: Path) -> None:
    container = guest.run("flood", spec=corral.spec("sh", "-c", "yes | head -c 40000000; exit 3"), stdio=StdioOptions(cap_bytes=64 * MIB))
    readers = [start_reader(corral, container, tmp_path / f"reader-{number}") for number in range(5)]
    wait_until(lambda: all(size_of(tmp_path / f"reader-{number}") for number in range(5)), "all read", 20.0)
    os.kill(readers[0].pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        sleeper = guest.run("other", spec=corral.spec("sleep", "1000"))
        sleeper.kill(9)
        assert sleeper.wait().signal == 9
        assert container.wait().code == 3
        for reader in readers[1:]:
            assert reader.wait(60) == 0
        assert time.monotonic() - began_s < 60
    finally:
        os.kill(readers[0].pid, signal.SIGCONT)
    assert readers[0].wait(60) == 0
    whole = hashlib.sha256((b"y\n" * 20_000_000)[:40_000_000]).hexdigest()
    assert {hashlib.sha256((tmp_path / f"reader-{number}").read_bytes()).hexdigest() for number in range(5)} == {whole}


def start_reader(corral: CorralSystem, container: Container, kept: Path) -> subprocess.Popen[bytes]:
    """A process that keeps stdout in a file, and goes on behind what is in it already."""
    return subprocess.Popen([sys.executable, "-c", READER, corral.address, container.guest, container.name, str(kept)])


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# -- guarantee 8 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(8)
def test_a_reader_killed_again_and_again_has_the_exact_bytes_over_restarts_and_after_delete(
    corral: CorralSystem, guest: Guest, numbers: Numbers, tmp_path: Path
) -> None:
    size, kept = 16 * MIB, tmp_path / "kept"
    container = guest.run("reattach", spec=numbers(size))
    for turn in range(5):
        before = size_of(kept)
        reader = start_reader(corral, container, kept)
        wait_until(lambda before=before: size_of(kept) > before or size_of(kept) == size, "it reads on", 20.0)  # type: ignore[misc]
        reader.kill()
        reader.wait()
        if turn == 1:
            corral.restart_worker(guest.name)
        if turn == 2:
            corral.restart_broker()
        if turn == 3:
            container.wait()
            container.delete()
    assert start_reader(corral, container, kept).wait(60) == 0
    assert kept.read_bytes() == numbered(size)


# -- block --------------------------------------------------------------------------------------------------------------------------


def read(client: Client, container: Container, offset: int, consumer: str = "", max_bytes: int = MIB) -> ReadStdioReply:
    args = ReadStdioArgs(container=container.name, stdout=offset, consumer=consumer, max_bytes=max_bytes, wait_ms=1000)
    reply = client.call(container.guest, "read_stdio", args)
    assert isinstance(reply, ReadStdioReply)
    return reply


def blocked_since(container: Container) -> int | None:
    (init,) = container.state().processes
    return init.blocked_since_ns


def blocking(client: Client, guest: Guest, spec: ContainerSpec, lease_s: float) -> Container:
    stdio = StdioOptions(cap_bytes=256 << 10, policy="block", consumer="me", lease_ms=int(lease_s * 1000))
    client.call(guest.name, "run", RunArgs(container="block", spec=spec, stdio=stdio))
    return guest.container("block")


def test_block_waits_for_its_one_consumer_who_gets_every_byte_over_a_worker_restart(
    corral: CorralSystem, client: Client, guest: Guest, numbers: Numbers
) -> None:
    size = 2 * MIB
    container = blocking(client, guest, numbers(size), lease_s=60)
    wait_until(lambda: blocked_since(container) is not None, "it is blocked", 20.0)
    assert read(client, container, 0).chunks, "another reader takes nothing away"
    data, offset = bytearray(), 0
    while offset < size:
        reply = read(client, container, offset, consumer="me")
        assert not reply.gaps
        data += b"".join(chunk.data for chunk in reply.chunks)
        if offset == 0:
            corral.restart_worker(guest.name)
        offset = reply.next["stdout"]
    read(client, container, offset, consumer="me")
    assert bytes(data) == numbered(size)
    assert container.wait().code == 0
    assert blocked_since(container) is None


def test_a_consumer_that_is_not_heard_any_more_holds_up_nothing_and_what_goes_is_a_gap(
    client: Client, guest: Guest, numbers: Numbers
) -> None:
    size = 2 * MIB
    container = blocking(client, guest, numbers(size), lease_s=1)
    assert container.wait(30).code == 0
    data, gaps = collected(container.init)
    assert {gap.reason for gap in gaps} == {"cap"}
    assert len(data) + sum(gap.end - gap.start for gap in gaps) == size
    assert data == numbered(size)[-len(data) :]


def test_kill_and_wait_do_not_wait_for_a_consumer(client: Client, guest: Guest, numbers: Numbers) -> None:
    container = blocking(client, guest, numbers(2 * MIB), lease_s=600)
    wait_until(lambda: blocked_since(container) is not None, "it is blocked", 20.0)
    container.kill(9)
    assert container.wait(10).signal == 9
    container.delete()
