"""A guest that lost its power, on what its disk may look like afterwards: every byte is there, or a gap says that it is not."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_schemas.stdio import Chunk, Gap, ReadStdioArgs, ReadStdioReply
from corral_testkit.bounded import run
from corral_testkit.guests import Room, open_room
from corral_worker.base.tasks import Tasks
from corral_worker.commands.handlers import stdio
from corral_worker.containers.spools import Spools
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.reconcile import adopt
from corral_worker.reconcile.notices import Notices
from corral_worker.reconcile.truncated_output import note_reads
from corral_worker.shim.spool.end_file import EndFile
from corral_worker.shim.spool.writer import SpoolWriter

CAP_BYTES = 1 << 20
PRINTED_BYTES = 300_000
OUTPUT = random.Random(7).randbytes(PRINTED_BYTES)

Damage = Callable[[Path], None]


def nothing(_: Path) -> None:
    """All of it was written back."""


def gone(directory: Path) -> None:
    """Not even the directory's entries were."""
    shutil.rmtree(directory)


def emptied(directory: Path) -> None:
    """Files that have their names and no bytes, as ext4 leaves them before it has allocated any."""
    for path in directory.glob("*.spool"):
        path.write_bytes(b"")


def truncated(at: float) -> Damage:
    """The last segment ends somewhere."""

    def damage(directory: Path) -> None:
        last = max(directory.glob("*.spool"))
        with last.open("r+b") as file:
            file.truncate(int(last.stat().st_size * at))

    return damage


def zeroed(at: float) -> Damage:
    """The last segment has its length, and zeros from somewhere on."""

    def damage(directory: Path) -> None:
        last = max(directory.glob("*.spool"))
        size = last.stat().st_size
        with last.open("r+b") as file:
            file.truncate(int(size * at))
            file.truncate(size)

    return damage


def a_page_lost(at: float) -> Damage:
    """One page in the middle was never written, though later ones were."""

    def damage(directory: Path) -> None:
        last = max(directory.glob("*.spool"))
        page = int(last.stat().st_size * at) // 4096 * 4096
        with last.open("r+b") as file:
            file.seek(page)
            file.write(bytes(min(4096, last.stat().st_size - page)))

    return damage


def write_output(room: Room, container: ContainerRecord, process: ProcessRecord, *, ended: bool = False) -> None:
    """As its shim would, up to the moment when the power goes."""
    directory = room.paths.process(container.instance, process.instance)
    directory.mkdir(parents=True)
    end_file = EndFile(directory)
    spool = SpoolWriter(directory, cap_bytes=CAP_BYTES, policy="drop", on_gap=lambda *_: None)
    for start in range(0, PRINTED_BYTES, 10_000):
        assert spool.append(1, OUTPUT[start : start + 10_000], time_ns=1) == 10_000
    if ended:
        streams = {str(n): {"offset": spool.state(n).offset, "crc": spool.state(n).crc, "open": False} for n in (1, 2)}
        end_file.write({"streams": streams, "exit": {"type": "exited", "code": 3, "started_ns": 1, "exited_ns": 2}})
    spool.close()
    end_file.close()


async def read_all(room: Room, process: ProcessRecord, stdout: int = 0) -> tuple[list[Chunk | Gap], ReadStdioReply]:
    """Everything from an offset on, piece by piece, to the end of the stream."""
    spools, pieces = Spools(room.guest), list[Chunk | Gap]()
    while True:
        args = ReadStdioArgs(container=process.container_name, process=process.id, stdout=stdout, max_bytes=50_000)
        reply = await stdio.read_stdio(room.guest, args, spools)
        pieces += [*reply.chunks, *reply.gaps]
        stdout = reply.next["stdout"]
        if "stdout" in reply.ends and stdout >= reply.ends["stdout"].total:
            spools.close()
            return pieces, reply


def check(pieces: list[Chunk | Gap], start: int = 0) -> int:
    """Contiguous, and the very bytes. Returns where they end."""
    at = start
    for piece in pieces:
        if isinstance(piece, Chunk):
            assert (piece.offset, bytes(piece.data)) == (at, OUTPUT[at : at + len(piece.data)])
            at += len(piece.data)
        else:
            assert piece.start == at
            at = piece.end
    return at


async def boot_again(room: Room, monkeypatch: pytest.MonkeyPatch, boot: str = "another boot") -> Tasks:
    monkeypatch.setattr(adopt, "boot_id", lambda: boot)
    tasks = Tasks()
    await adopt.take_over(room.guest, Notices(room.guest, tasks), journal_is_new=room.is_new)
    await room.journal.durable()
    return tasks


async def a_power_cut(
    directory: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, *, read_to: int = 0, ended: bool = False
) -> tuple[list[Chunk | Gap], ReadStdioReply, Room, list[str]]:
    """A process prints, the power goes, the disk is as `damage` leaves it, the guest boots: what a reader gets, and kinds of events."""
    async with open_room(directory, durability="power") as room:
        await boot_again(room, monkeypatch, "first boot")
        container = room.container("c1")
        process = room.init(container)
        write_output(room, container, process, ended=ended)
        process.read_to = {"stdout": read_to} if read_to else {}
        room.journal.save(process)
        await room.journal.durable()
    damage(room.paths.process(container.instance, process.instance))
    async with open_room(directory) as room:
        tasks = await boot_again(room, monkeypatch)
        process = room.init(room.guest.find_container("c1"))
        pieces, reply = await read_all(room, process)
        await tasks.stop()
        return pieces, reply, room, room.kinds()


def cut(
    tmp_path: Path, damage: Damage, *, read_to: int = 0, ended: bool = False
) -> tuple[list[Chunk | Gap], ReadStdioReply, Room, list[str]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return run(a_power_cut(tmp_path, monkeypatch, damage, read_to=read_to, ended=ended))


DAMAGES = {"nothing": nothing, "gone": gone, "emptied": emptied, "truncated": truncated(0.4), "zeroed": zeroed(0.4)}
DAMAGES |= {"a page lost": a_page_lost(0.5)}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_process_that_ran_is_lost_once_and_its_output_ends_in_a_gap_of_unknown_length(tmp_path: Path, damage: Damage) -> None:
    pieces, reply, room, kinds = cut(tmp_path, damage)
    end = check(pieces)
    last = pieces[-1]
    assert isinstance(last, Gap) and (last.reason, last.open_ended, last.end) == ("power_cut", True, end)
    assert end == PRINTED_BYTES if damage is nothing else end < PRINTED_BYTES
    assert reply.ends["stdout"].cut and reply.exit is not None
    assert (reply.exit.type, reply.exit.reason) == ("lost", "guest rebooted")
    assert (reply.exit.streams["stdout"].state, reply.exit.streams["stdout"].total) == ("open", last.start)
    assert kinds == ["exit", "stdio_gap", "stdio_end", "stdio_gap", "stdio_end", "worker_started"]
    assert [(gap["stream"], gap.get("open_ended")) for gap in room.payloads("stdio_gap")] == [("stdout", True), ("stderr", True)]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_a_reader_is_known_to_have_had_is_the_least_that_is_told_to_be_missing(tmp_path: Path, damage: Damage) -> None:
    pieces, reply, _, _ = cut(tmp_path, damage, read_to=PRINTED_BYTES)
    assert check(pieces) == PRINTED_BYTES == reply.ends["stdout"].total
    last = pieces[-1]
    assert isinstance(last, Gap) and last.open_ended


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_output_of_a_process_that_had_ended_is_missing_exactly_as_far_as_its_end_tells(tmp_path: Path, damage: Damage) -> None:
    if damage is gone:  # with the note of its end: then it is lost
        pieces, reply, _, _ = cut(tmp_path, damage, ended=True)
        assert reply.exit is not None and reply.exit.type == "lost"
        return
    pieces, reply, room, _ = cut(tmp_path, damage, ended=True)
    assert check(pieces) == PRINTED_BYTES == reply.ends["stdout"].total
    assert reply.exit is not None and (reply.exit.type, reply.exit.code) == ("exited", 3)
    gaps = [piece for piece in pieces if isinstance(piece, Gap)]
    assert bool(gaps) == (damage is not nothing)
    assert not any(gap.open_ended for gap in gaps) and {gap.reason for gap in gaps} <= {"power_cut"}
    assert [(gap["start"], gap["end"]) for gap in room.payloads("stdio_gap")] == [(gap.start, gap.end) for gap in gaps]


@settings(max_examples=25, deadline=None)
@given(at=st.floats(0, 0.999), kind=st.sampled_from([truncated, zeroed, a_page_lost]), read_to=st.integers(0, PRINTED_BYTES))
def test_wherever_the_disk_stopped_no_byte_is_wrong_and_none_is_passed_over(
    at: float, kind: Callable[[float], Damage], read_to: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        pieces, _, _, _ = cut(Path(directory), kind(at), read_to=read_to)
    end = check(pieces)
    last = pieces[-1]
    assert isinstance(last, Gap) and last.open_ended
    assert end == max(read_to, last.start)


def test_a_reader_that_had_more_than_anybody_noted_is_told_that_the_stream_was_cut_before_that(tmp_path: Path) -> None:
    async def check_it(monkeypatch: pytest.MonkeyPatch) -> None:
        await a_power_cut(tmp_path, monkeypatch, emptied)
        async with open_room(tmp_path) as room:
            await boot_again(room, monkeypatch)
            (gap,), reply = await read_all(room, room.init(room.guest.find_container("c1")), stdout=250_000)
            assert isinstance(gap, Gap) and (gap.start, gap.end, gap.open_ended) == (250_000, 250_000, True)
            assert reply.ends["stdout"].total == 250_000 and reply.ends["stdout"].cut

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(check_it(monkeypatch))


@pytest.mark.parametrize("ended", [False, True])
def test_what_was_told_once_is_not_told_again_after_the_next_boot(tmp_path: Path, ended: bool) -> None:
    async def check_it(monkeypatch: pytest.MonkeyPatch) -> None:
        await a_power_cut(tmp_path, monkeypatch, emptied, ended=ended)
        for boot in ("another boot", "a third boot"):
            async with open_room(tmp_path) as room:
                tasks = await boot_again(room, monkeypatch, boot)
                assert room.kinds() == ["worker_started"]
                await tasks.stop()

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(check_it(monkeypatch))


def test_a_worker_that_dies_in_the_middle_of_taking_over_leaves_the_reboot_to_the_next(tmp_path: Path) -> None:
    """One that was being created before the boot must not be begun again, and each process has one exit, for the right reason."""

    async def check_it(monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_room(tmp_path) as room:
            await boot_again(room, monkeypatch, "first boot")
            for name in ("c1", "c2"):
                room.container(name)
            await room.journal.durable()

        async def dies(*_: object, **__: object) -> int:
            raise ConnectionAbortedError

        async with open_room(tmp_path) as room:
            with monkeypatch.context() as first:
                first.setattr(adopt, "sweep", dies)
                with pytest.raises(ConnectionAbortedError):
                    await boot_again(room, monkeypatch)
                await room.journal.durable()
            half = [record.kind for record in room.published]
        async with open_room(tmp_path) as room:
            await boot_again(room, monkeypatch)
            kinds = half + room.kinds()
            assert kinds.count("exit") == 2 and kinds.count("worker_started") == 2 - 1
            for name in ("c1", "c2"):
                end = room.init(room.guest.find_container(name)).exit
                assert end is not None and (end.type, end.reason) == ("lost", "guest rebooted")

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(check_it(monkeypatch))


def test_how_far_readers_were_is_on_disk_within_moments_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async def check_it() -> None:
        async with open_room(tmp_path) as room:
            container = room.container("c1")
            process = room.init(container)
            write_output(room, container, process)
            spools = Spools(room.guest)
            task = asyncio.create_task(note_reads(room.guest, spools))
            spools.read(process, {1: 1 << 40}, 70_000)  # whoever states what he likes is not believed
            spools.read(process, {1: 0}, 70_000)
            async with asyncio.timeout(5):
                while process.read_to != {"stdout": 70_000}:
                    await asyncio.sleep(0.01)
            await room.journal.durable()
            (kept,) = room.journal.store.processes(container.instance)
            assert kept.read_to == {"stdout": 70_000}
            task.cancel()
            spools.close()

    run(check_it())


def test_the_journal_has_what_was_recorded_before_the_next_boot(tmp_path: Path) -> None:
    """The commit that holds the exit holds the gap and the end of its streams too: no reader sees one without the other."""
    cut(tmp_path, emptied)
    with closing(sqlite3.connect(tmp_path / "state" / "journal.sqlite")) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM events ORDER BY seq")]
    assert kinds[kinds.index("exit") :][:3] == ["exit", "stdio_gap", "stdio_end"]
