"""What shims notice: recorded once however often it is told, in the right order, and acknowledged after it is on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from corral_schemas.stdio import StdioOptions
from corral_testkit.bounded import run
from corral_testkit.guests import Room, open_room
from corral_testkit.shim_messages import as_notice
from corral_worker.base.tasks import Tasks
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.reconcile.notices import Notices

CLOSED = {"1": {"state": "closed", "total": 3, "crc": 9}, "2": {"state": "closed", "total": 0, "crc": 0}}
STDOUT_OPEN = {**CLOSED, "1": {"state": "open", "offset": 3, "crc": 9}}


USAGE = {"oom_seen": False, "started_ns": 1, "exited_ns": 2, "user_us": 3, "system_us": 4, "max_rss_kib": 5}


class Desk:
    def __init__(self, room: Room) -> None:
        self.room, self.tasks = room, Tasks()
        self.notices = Notices(room.guest, self.tasks)
        self.container = room.container()
        self.init = room.init(self.container)

    def exec(self, name: str = "x1") -> ProcessRecord:
        process = self.room.guest.add_process(self.container, self.room.guest.new_instance(), name, StdioOptions())
        process.pid = 4_000_001
        return process

    async def tell(self, *notices: dict[str, Any], container: ContainerRecord | None = None) -> None:
        for notice in notices:
            self.notices.take((container or self.container).instance, as_notice(notice))
        await self.room.journal.durable()


def ended(process: ProcessRecord, n: int = 1, streams: Any = CLOSED, **end: Any) -> dict[str, Any]:
    usage = {name: end.pop(name, value) for name, value in USAGE.items()}
    told = end or {"type": "exited", "code": 7}
    return {"t": "exit", "n": n, "process": process.instance, "exit": told, "streams": streams, **usage}


def at_desk(directory: Path, work: Any) -> None:
    async def bounded() -> None:
        async with open_room(directory) as room:
            desk = Desk(room)
            try:
                await work(desk)
            finally:
                await desk.tasks.stop()

    run(bounded())


def repeatable(desk: Desk) -> list[dict[str, Any]]:
    """One notice of every kind, for a container whose init still holds stdout open after its exit."""
    init = desk.init.instance
    return [
        {"t": "oom", "n": 1, "count": 2},
        {"t": "gap", "n": 2, "process": init, "stream": 1, "from": 0, "to": 5, "reason": "cap"},
        {"t": "gap", "n": 3, "process": init, "stream": 2, "from": 0, "to": 4, "reason": "cap"},
        {"t": "blocked", "n": 4, "process": init, "since_ns": 77},
        {"t": "storage", "n": 5, "full": True},
        {"t": "storage", "n": 6, "full": False},
        ended(desk.init, 7, STDOUT_OPEN),
        {"t": "stream_end", "n": 8, "process": init, "stream": 1, "total": 10, "crc": 11},
    ]


def test_repeated_notices_change_nothing(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        told = repeatable(desk)
        await desk.tell(*told)
        once = desk.room.kinds()
        assert once == ["oom", "stdio_gap", "stdio_gap", "storage_full", "storage_ok", "exit", "stdio_end"]
        for _ in range(2):
            await desk.tell(*told)
        assert desk.room.kinds() == once

    at_desk(tmp_path, work)


def test_notices_repeated_to_the_next_worker_change_nothing(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    instance: list[str] = []

    async def first(desk: Desk) -> None:
        told.extend(repeatable(desk))
        instance.append(desk.container.instance)
        await desk.tell(*told)

    async def second() -> None:
        async with open_room(tmp_path) as room:
            (container,) = [one for one in room.journal.store.live_containers() if one.instance == instance[0]]
            room.guest.adopt_container(container, room.journal.store.processes(container.instance))
            tasks = Tasks()
            notices = Notices(room.guest, tasks)
            for notice in told:
                notices.take(container.instance, as_notice(notice))
            await room.journal.durable()
            assert room.kinds() == []
            await tasks.stop()

    at_desk(tmp_path, first)
    run(second())


def test_what_a_shim_added_to_a_gap_since_it_told_it_is_announced_alone(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        gap = {"t": "gap", "n": 4, "process": desk.init.instance, "stream": 1, "from": 0, "to": 5, "reason": "cap"}
        await desk.tell(gap, {**gap, "to": 9}, {**gap, "to": 9}, {**gap, "n": 5, "from": 20, "to": 30})
        assert [(one["start"], one["end"]) for one in desk.room.payloads("stdio_gap")] == [(0, 5), (5, 9), (20, 30)]

    at_desk(tmp_path, work)


def test_an_exit_enters_the_journal_with_everything_the_shim_knows(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.tell(ended(desk.init, type="signalled", signal=9, core=True, oom_seen=True, user_us=5, max_rss_kib=6))
        end = desk.init.exit
        assert end is not None
        assert (end.type, end.signal, end.core, end.oom_seen, end.user_us, end.max_rss_kib) == ("signalled", 9, True, True, 5, 6)
        assert (end.started_ns, end.exited_ns) == (1, 2)
        assert (end.streams["stdout"].state, end.streams["stdout"].total, end.streams["stdout"].crc) == ("closed", 3, 9)
        assert desk.container.status == "stopped"

    at_desk(tmp_path, work)


def test_a_stream_that_was_open_at_the_exit_ends_by_its_own_event(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        end = {"t": "stream_end", "n": 2, "process": desk.init.instance, "stream": 1, "total": 10, "crc": 11}
        await desk.tell(ended(desk.init, 1, STDOUT_OPEN), end)
        assert desk.room.kinds() == ["exit", "stdio_end"]
        assert desk.room.payloads("stdio_end") == [{"stream": "stdout", "total": 10, "crc": 11}]
        assert desk.init.exit is not None and desk.init.exit.streams["stdout"].state == "open"
        assert desk.init.ends["stdout"].total == 10

    at_desk(tmp_path, work)


def test_a_stream_that_ended_before_the_exit_is_told_by_the_exit_alone(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.tell({"t": "stream_end", "n": 1, "process": desk.init.instance, "stream": 1, "total": 3, "crc": 9}, ended(desk.init, 2))
        assert desk.room.kinds() == ["exit"]

    at_desk(tmp_path, work)


def test_inits_exit_comes_after_those_of_its_execs(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        execs = [desk.exec(f"x{number}") for number in range(3)]
        await desk.tell(ended(desk.init, 1))
        assert desk.room.kinds() == []
        await desk.tell(*(ended(one, 2 + number) for number, one in enumerate(execs)))
        assert [header.process for header in desk.room.headers() if header.kind == "exit"] == ["x0", "x1", "x2", "init"]

    at_desk(tmp_path, work)


def test_inits_exit_waits_only_a_moment_for_an_exec_that_lives_on(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.exec()
        await desk.tell(ended(desk.init, 1))
        await asyncio.wait_for(desk.room.guest.waiters.exited(desk.init), 1.0)
        assert desk.room.kinds() == ["exit"]

    at_desk(tmp_path, work)


def test_a_waiter_is_told_only_after_the_exit_is_on_disk(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        waiting = asyncio.ensure_future(desk.room.guest.waiters.exited(desk.init))
        await asyncio.sleep(0)
        desk.notices.take(desk.container.instance, as_notice(ended(desk.init)))
        assert not waiting.done()
        await waiting
        assert desk.room.kinds() == ["exit"]

    at_desk(tmp_path, work)


@pytest.mark.parametrize(
    "notice",
    [
        {"t": "exit", "n": 1, "process": "unknown", "exit": {"type": "exited", "code": 0}, "streams": {}, **USAGE},
        {"t": "stream_end", "n": 1, "process": "unknown", "stream": 1, "total": 1, "crc": 1},
        {"t": "gap", "n": 1, "process": "unknown", "stream": 1, "from": 0, "to": 1, "reason": "cap"},
    ],
)
def test_what_is_of_nobody_or_unknown_is_dropped(tmp_path: Path, notice: dict[str, Any]) -> None:
    async def work(desk: Desk) -> None:
        await desk.tell(notice)
        assert desk.room.kinds() == []

    at_desk(tmp_path, work)


def test_a_container_that_is_gone_is_not_brought_back(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.room.guest.mark_deleted(desk.container)
        await desk.tell(ended(desk.init))
        assert desk.room.kinds() == []

    at_desk(tmp_path, work)
