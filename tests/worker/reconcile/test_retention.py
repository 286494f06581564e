"""What is kept of deleted containers goes once it is past its time, however much it is."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from pathlib import Path

import pytest

from corral_schemas.events import Paused
from corral_schemas.limits import EVENTS_KEPT_S
from corral_testkit.bounded import run
from corral_testkit.guests import Room, open_room
from corral_worker.containers.spools import Spools
from corral_worker.journal.port import Statement
from corral_worker.journal.records import RequestRecord
from corral_worker.journal.store import SqliteStore
from corral_worker.reconcile import retention
from corral_worker.reconcile.retention import BATCH, EVER_NS, ROWS_A_COMMIT, keep_tidy, tidy

DAY_MS = 86_400_000


def deleted(room: Room, name: str) -> None:
    """A container that was deleted just now, with its directory."""
    container = room.container(name, "stopped")
    room.paths.container(container.instance).mkdir()
    room.guest.mark_deleted(container)


def pass_time(room: Room, ms: int) -> None:
    """So much worker time passes."""
    room.journal._worker_ms_base += ms


def test_more_than_a_batch_goes_in_one_round_and_what_is_young_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            for number in range(BATCH + 200):
                deleted(room, f"old-{number}")
            pass_time(room, DAY_MS - 1_000)
            deleted(room, "young")
            pass_time(room, 10_000)
            await room.journal.durable()
            await tidy(room.guest, Spools(room.guest))
            await room.journal.durable()
            assert len(list(room.paths.instances.iterdir())) == 1
            assert [one.name for one in room.journal.store.deleted_containers(EVER_NS, BATCH)] == ["young"]

    run(work())


def test_a_round_takes_no_more_memory_where_very_much_is_kept(tmp_path: Path) -> None:
    async def peak_bytes(room: Room) -> int:
        await room.journal.durable()
        gc.collect()
        tracemalloc.start()
        try:
            await tidy(room.guest, Spools(room.guest))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async def work() -> None:
        async with open_room(tmp_path) as room:
            for number in range(600):
                deleted(room, f"few-{number}")
            await peak_bytes(room)  # what is only taken once
            few = await peak_bytes(room)
            for number in range(3_000):
                deleted(room, f"many-{number}")
            assert await peak_bytes(room) < few * 1.25

    run(work())


def test_after_a_round_that_the_disk_ended_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        monkeypatch.setattr(retention, "INTERVAL_S", 0.01)
        async with open_room(tmp_path) as room:
            deleted(room, "old")
            pass_time(room, DAY_MS + 1_000)
            await room.journal.durable()
            aside = room.paths.instances.rename(tmp_path / "aside")
            tidying = asyncio.ensure_future(keep_tidy(room.guest, Spools(room.guest)))
            while "what is past its time" not in caplog.text:
                await asyncio.sleep(0.01)
            (old,) = aside.rename(room.paths.instances).iterdir()
            while old.exists():
                await asyncio.sleep(0.01)
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)

    run(work())


def test_a_jump_of_the_wall_clock_ends_nobodys_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            deleted(room, "a")
            await room.journal.durable()
            now_ns = time.time_ns()
            monkeypatch.setattr(time, "time_ns", lambda: now_ns + 3 * DAY_MS * 1_000_000)
            await tidy(room.guest, Spools(room.guest))
            await room.journal.durable()
            assert len(room.journal.store.deleted_containers(EVER_NS, BATCH)) == 1

    run(work())


def test_the_newest_of_a_name_is_the_one_made_last_though_the_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def make(name: str) -> str:
        async with open_room(tmp_path) as room:
            deleted(room, name)
            await room.journal.durable()
            newest = room.journal.store.newest_container(name)
            assert newest is not None
            return newest.instance

    async def work() -> None:
        first = await make("a")
        now_ns = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: now_ns - DAY_MS * 1_000_000)
        second = await make("a")  # by another worker, over the same journal
        assert second > first

    run(work())


def test_events_go_by_their_age_in_worker_time_and_the_newest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def first_seq_after(room: Room) -> int:
        await tidy(room.guest, Spools(room.guest))
        await room.journal.durable()
        return room.journal.store.first_seq()

    async def work() -> None:
        async with open_room(tmp_path) as room:
            for _ in range(3):
                room.journal.event("paused", Paused())
            last, now_ns = room.journal.last_seq, time.time_ns()
            with monkeypatch.context() as jumped:
                jumped.setattr(time, "time_ns", lambda: now_ns + 365 * DAY_MS * 1_000_000)
                assert await first_seq_after(room) == 1
            pass_time(room, (EVENTS_KEPT_S - 60) * 1000)
            assert await first_seq_after(room) == 1
            pass_time(room, 120 * 1000)
            assert await first_seq_after(room) == last == room.journal.store.last_seq()

    run(work())


def test_very_many_rows_go_in_many_short_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of_commits: list[int] = []
    commit = SqliteStore._commit

    def counted(store: SqliteStore, batch: list[Statement]) -> None:
        before = store._write.total_changes
        commit(store, batch)
        if any(sql.strip().startswith("DELETE") for sql, _ in batch):
            rows_of_commits.append(store._write.total_changes - before)

    def record(room: Room, name: str, reply: bytes = b"") -> None:
        room.journal.save(RequestRecord(id=name, op="kill", digest=b"", recorded_ms=room.journal.worker_ms(), reply=reply))

    async def work() -> None:
        async with open_room(tmp_path) as room:
            for number in range(2 * ROWS_A_COMMIT + 10):
                record(room, f"done-{number}", reply=b"ok")
                room.journal.event("paused", Paused())
            record(room, "under way")
            await tidy(room.guest, Spools(room.guest))  # notes the hour
            monkeypatch.setattr(SqliteStore, "_commit", counted)
            pass_time(room, (EVENTS_KEPT_S + 60) * 1000)
            record(room, "young", reply=b"ok")
            await room.journal.durable()
            await tidy(room.guest, Spools(room.guest))
            assert room.journal.store.first_seq() == room.journal.last_seq
            left = {name for name in ("done-0", f"done-{2 * ROWS_A_COMMIT + 9}", "under way", "young") if room.journal.find_request(name)}
            assert left == {"under way", "young"}

    run(work())
    assert sum(rows_of_commits) > 4 * ROWS_A_COMMIT
    assert max(rows_of_commits) <= ROWS_A_COMMIT + 10  # a few records of other kinds go with them
