"""The journal on a real disk: what was told is on it, whatever ends the worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from corral_schemas.events import Deleted, Paused, Resumed
from corral_schemas.limits import EVENT_BYTES_MAX
from corral_testkit.bounded import run
from corral_testkit.guests import Room, open_room
from corral_worker.journal.records import EventRecord, RequestRecord
from corral_worker.journal.store import JournalCorruptError, SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from corral_schemas.events import Paused
from corral_testkit.guests import Room

async def main():
    room = Room(Path(sys.argv[1]), on_publish=lambda record: print(record.seq, flush=True))
    while True:
        for _ in range(7):
            room.journal.event("paused", Paused())
        await asyncio.sleep(0.002)  # a loop that never rests would keep the interpreter from the thread that commits

asyncio.run(main())
"""


def seqs_on_disk(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as connection:
        return {seq for (seq,) in connection.execute("SELECT seq FROM events")}


def test_an_event_is_on_disk_before_it_is_published(tmp_path: Path) -> None:
    early: list[int] = []

    def look(record: EventRecord) -> None:
        if record.seq not in seqs_on_disk(tmp_path / "state/journal.sqlite"):
            early.append(record.seq)

    async def work() -> None:
        async with open_room(tmp_path, durability="power", on_publish=look) as room:
            for _ in range(50):
                room.journal.event("paused", Paused())
                await asyncio.sleep(0)
            await room.journal.durable()
            assert [record.seq for record in room.published] == list(range(1, 52))
        assert early == []

    run(work())


def test_nothing_is_published_in_the_turn_in_which_it_was_recorded(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            await room.journal.durable()
            before = len(room.published)
            room.journal.event("paused", Paused())
            assert len(room.published) == before
            assert not room.journal.durable().done()
            assert (room.journal.last_seq, room.journal.durable_seq) == (2, 1)
            await room.journal.durable()
            assert (len(room.published), room.journal.durable_seq) == (before + 1, 2)

    run(work())


def test_what_is_recorded_in_one_turn_is_handed_over_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            await room.journal.durable()
            before = room.appends
            for _ in range(500):
                room.journal.event("paused", Paused())
            await room.journal.durable()
            assert room.appends == before + 1

    run(work())


def test_all_who_wait_share_a_commit(tmp_path: Path) -> None:
    async def one(room: Room, number: int) -> None:
        for _ in range(5):
            room.journal.save(RequestRecord(id=f"r{number}", op="kill", digest=b"d"))
            await room.journal.durable()

    async def work() -> None:
        async with open_room(tmp_path, durability="power") as room:
            await room.journal.durable()
            before = room.commits
            await asyncio.gather(*(one(room, number) for number in range(200)))
            assert room.commits - before < 200

    run(work())


def test_each_event_names_its_forerunner_of_the_same_kind(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            for kind in ("paused", "resumed", "paused", "paused", "resumed"):
                room.journal.event(kind, Paused() if kind == "paused" else Resumed())
            await room.journal.durable()
            chain = [(header.seq, header.kind, header.prev) for header in room.headers()]
            assert chain[1:] == [(2, "paused", 0), (3, "resumed", 0), (4, "paused", 2), (5, "paused", 4), (6, "resumed", 3)]
            epoch = room.journal.epoch
        async with open_room(tmp_path) as room:
            room.journal.event("resumed", Resumed())
            await room.journal.durable()
            (header,) = room.headers()
            assert (header.seq, header.prev, header.epoch) == (7, 6, epoch)

    run(work())


def test_a_new_epoch_begins_with_a_reset_that_names_the_old_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            first = room.journal.epoch
            room.journal.event("paused", Paused())
            room.journal.new_epoch("journal set back")
            room.journal.event("paused", Paused())
            await room.journal.durable()
            assert room.journal.epoch != first
            assert room.headers()[-2].kind == "journal_reset"
            assert [(header.seq, header.prev) for header in room.headers()[-2:]] == [(1, 0), (2, 0)]
            assert room.payloads("journal_reset")[-1] == {"reason": "journal set back", "previous_epoch": first, "previous_seq": 2}
            assert seqs_on_disk(room.paths.journal) == {1, 2}

    run(work())


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            container = room.container("web")
            room.journal.save(RequestRecord(id="r1", op="kill", digest=b"d", reply=b"\x80"))
            room.journal.save(RequestRecord(id="r2", op="kill", digest=b"d"))
            first = (room.journal.epoch, room.journal.last_seq, room.journal.generation)
        async with open_room(tmp_path) as room:
            assert not room.is_new
            assert (room.journal.epoch, room.journal.last_seq, room.journal.generation) == (first[0], first[1], first[2] + 1)
            (loaded,) = room.journal.store.live_containers()
            assert (loaded.name, loaded.status) == ("web", "running")
            assert [one.instance for one in room.journal.store.processes(container.instance)] == [container.init]
            assert [record.id for record in room.journal.store.unfinished_requests()] == ["r2"]
            found = room.journal.find_request("r1")
            assert found is not None and found.done

    run(work())


def test_worker_time_goes_on_where_it_was(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            room.journal.set_meta("worker_ms", "5000000")
            await room.journal.durable()
        with closing(sqlite3.connect(tmp_path / "state/journal.sqlite")) as connection, connection:
            connection.execute("UPDATE meta SET value = '5000000' WHERE key = 'worker_ms'")
        async with open_room(tmp_path) as room:
            assert 5_000_000 <= room.journal.worker_ms() < 5_060_000

    run(work())


def test_worker_time_of_a_worker_that_was_killed_goes_on_from_its_last_request(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            room.journal.save(RequestRecord(id="r1", op="kill", digest=b"d", recorded_ms=room.journal.worker_ms() + 30_000))
        async with open_room(tmp_path) as room:
            assert room.journal.worker_ms() >= 30_000  # else its commands would have half a minute more

    run(work())


@pytest.mark.guarantee(23)
def test_what_was_published_is_there_after_kill_9(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert writer.stdout is not None
    published = [int(writer.stdout.readline()) for _ in range(300)]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    published += [int(line) for line in writer.stdout.read().splitlines() if line.isdigit()]
    writer.stdout.close()
    assert published == list(range(1, len(published) + 1))

    async def work() -> None:
        async with open_room(tmp_path) as room:
            kept, _ = room.journal.events_after(0, (), 10_000_000, 1 << 30)
            assert [record.seq for record in kept] == list(range(1, room.journal.last_seq + 1))
            assert room.journal.last_seq >= published[-1]

    run(work())


@pytest.mark.guarantee(10)
def test_replay_reads_by_place_kind_and_amount(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            for number in range(10):
                room.journal.event("paused" if number % 2 else "resumed", Paused())
            assert room.journal.events_after(0, (), 100, 1 << 20) == ([], 0)  # nothing of it is on disk yet
            await room.journal.durable()
            events, upto = room.journal.events_after(1, ("paused",), 3, 1 << 20)
            assert ([event.seq for event in events], upto) == ([3, 5, 7], 7)
            events, upto = room.journal.events_after(9, ("journal_reset",), 3, 1 << 20)
            assert (events, upto) == ([], 11)
            events, upto = room.journal.events_after(0, (), 100, 1)
            assert (len(events), upto) == (1, 1)

    run(work())


def test_an_event_that_is_too_large_is_refused_before_it_is_recorded(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            with pytest.raises(ValueError, match="the limit is"):
                room.journal.event("deleted", Deleted(reason="x" * EVENT_BYTES_MAX))
            assert room.journal.last_seq == 1

    run(work())


@pytest.mark.parametrize("damage", ["text", "zeros in the middle"])
def test_a_journal_that_cannot_be_read_is_called_corrupt_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state/journal.sqlite"

    async def fill() -> None:
        async with open_room(tmp_path) as room:
            for _ in range(500):
                room.journal.event("paused", Paused())

    run(fill())
    content = bytearray(path.read_bytes())
    content[:] = b"not a database at all" * 100 if damage == "text" else content[:4096] + bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError):
        SqliteStore(path, "process", lambda position: None, lambda full: None)
    assert path.read_bytes() == bytes(content)


def test_a_disk_that_cannot_be_used_is_not_taken_for_corruption(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        SqliteStore(tmp_path / "journal.sqlite", "process", lambda position: None, lambda full: None)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 7 MiB."""
    with tempfile.TemporaryDirectory(prefix="corral-small-") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def fill_up(path: Path) -> None:
    """Writes until nothing more goes on the disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # that it is full is what was wanted
        while file.write(bytes(4096)):
            pass


@pytest.mark.runc
def test_a_full_disk_drops_nothing_and_says_when_it_is_full_and_when_there_is_room_again(small_disk: Path) -> None:
    async def work() -> None:
        async with open_room(small_disk) as room:
            changes: asyncio.Queue[bool] = asyncio.Queue()
            room.journal.on_full = changes.put_nowait
            await room.journal.durable()
            filler = small_disk / "filler"
            fill_up(filler)
            waiting = 0
            while changes.empty():
                for _ in range(50):
                    room.journal.save(RequestRecord(id=f"r{waiting}", op="kill", digest=b"d", reply=os.urandom(4096)))
                    waiting += 1
                room.journal.event("paused", Paused())
                await asyncio.wait([room.journal.durable()], timeout=0.5)
            assert await changes.get() is True
            assert room.journal.full
            room.journal.event("resumed", Resumed())
            filler.unlink()
            assert await asyncio.wait_for(changes.get(), 10) is False
            assert not room.journal.full
            await room.journal.durable()
            assert all(room.journal.find_request(f"r{number}") is not None for number in range(waiting))
            assert [header.seq for header in room.headers()] == list(range(1, room.journal.last_seq + 1))

    run(work())


def test_unfinished_requests_are_gone_on_with_as_they_came_though_the_first_was_written_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            first, second = (RequestRecord(id=name, op="pause", digest=b"d", recorded_ms=7) for name in ("r2", "r1"))
            for record in (first, second, first):  # each on disk by itself
                room.journal.save(record)
                await room.journal.durable()
            assert [record.id for record in room.journal.store.unfinished_requests()] == ["r2", "r1"]

    run(work())
