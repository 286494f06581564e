"""Commands: at most once by request id, one result however often it is asked for, every deadline kept. Handlers are the test's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, ContainerTarget, CreateArgs, KillArgs, KillReply
from corral_schemas.errors import error
from corral_schemas.frames import CommandHeader, pack
from corral_schemas.queries import Nothing, ResultArgs
from corral_schemas.stdio import Done
from corral_testkit.bounded import run
from corral_testkit.guests import Answers, Room, open_room
from corral_worker import requests
from corral_worker.flight import Flight
from corral_worker.guest import Guest
from corral_worker.journal.records import RequestRecord
from corral_worker.requests import Requests
from corral_worker.tasks import Tasks

KILL = KillArgs(container="c1")


class Desk:
    """Requests over a room; kill and pause are handlers that count and wait to be let through, resume fails, create crashes."""

    def __init__(self, room: Room) -> None:
        self.room, self.answers, self.tasks = room, Answers(), Tasks()
        self.runs: list[str] = []
        self.let_through = asyncio.Event()
        self.let_through.set()
        self.requests = Requests(
            room.guest,
            {"cancel": self._cancel, "result": self._result, "state": self._query},
            {"kill": self._change, "pause": self._before_effect, "resume": self._fail, "create": self._crash},
            self.answers.send,
            self.tasks,
        )

    async def _cancel(self, guest: Guest, args: CancelArgs) -> Message:
        return await self.requests.cancel(guest, args)

    async def _result(self, guest: Guest, args: ResultArgs) -> Message:
        return await self.requests.result(guest, args)

    async def _query(self, guest: Guest, args: ContainerTarget) -> Message:
        await self.let_through.wait()
        return Done()

    async def _change(self, guest: Guest, args: KillArgs, flight: Flight) -> Message:
        flight.begun = True
        self.runs.append(flight.id)
        await self.let_through.wait()
        return KillReply(outcome="delivered")

    async def _before_effect(self, guest: Guest, args: ContainerTarget, flight: Flight) -> Message:
        await self.let_through.wait()
        flight.check_not_cancelled()
        self.runs.append(flight.id)
        return Done()

    async def _fail(self, guest: Guest, args: ContainerTarget, flight: Flight) -> Message:
        self.runs.append(flight.id)
        raise error("container_invalid_state", "not paused")

    async def _crash(self, guest: Guest, args: CreateArgs, flight: Flight) -> Message:
        raise KeyError("a bug")

    def send(self, op: str, args: Message, *, id: str = "r1", timeout_ms: int = 5_000, **header: Any) -> None:
        made = CommandHeader(id=id, guest="g1", op=op, timeout_ms=timeout_ms, **header)
        self.requests.take(None, made, pack(args), asyncio.get_running_loop().time())

    async def ask(self, op: str, args: Message, **header: Any) -> Any:
        self.send(op, args, **header)
        return await self.answers.next()


def at_desk(directory: Path, work: Any) -> None:
    """Runs `work(desk)` on a fresh desk."""

    async def bounded() -> None:
        async with open_room(directory) as room:
            desk = Desk(room)
            try:
                await work(desk)
            finally:
                await desk.tasks.stop()

    run(bounded())


def test_the_same_id_runs_once_and_gets_the_same_reply(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        answers = [await desk.ask("kill", KILL) for _ in range(3)]
        assert [answer.ok for answer in answers] == [{"outcome": "delivered"}] * 3
        assert desk.runs == ["r1"]
        assert desk.requests.counters["repeats"] == 2

    at_desk(tmp_path, work)


def test_beyond_what_brokers_may_have_in_flight_a_command_is_refused_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "CHANGES_MAX", 3)
    monkeypatch.setattr(requests, "QUERIES_MAX", 2)

    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        for number in range(3):
            desk.send("kill", KILL, id=f"kill-{number}")
        for number in range(2):
            desk.send("state", ContainerTarget(container="c1"), id=f"state-{number}")
        refused = [await desk.ask("kill", KILL, id="one-more"), await desk.ask("state", ContainerTarget(container="c1"), id="and-more")]
        assert [answer.code for answer in refused] == ["guest_busy"] * 2
        assert desk.requests.counters["busy"] == 2
        desk.send("kill", KILL, id="kill-0")  # a repeat takes no room
        desk.let_through.set()
        assert [(await desk.answers.next()).error for _ in range(6)] == [None] * 6
        assert (await desk.ask("kill", KILL, id="one-more")).ok
        assert (await desk.ask("state", ContainerTarget(container="c1"), id="and-more")).ok == {}

    at_desk(tmp_path, work)


def test_a_repeat_of_what_is_under_way_joins_it(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        for _ in range(3):
            desk.send("kill", KILL)
        await asyncio.sleep(0)
        assert desk.answers.none_waits
        desk.let_through.set()
        assert [(await desk.answers.next()).ok for _ in range(3)] == [{"outcome": "delivered"}] * 3
        assert desk.runs == ["r1"]

    at_desk(tmp_path, work)


def test_a_failure_is_a_result_too(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        target = ContainerTarget(container="c1")
        assert [(await desk.ask("resume", target)).code for _ in range(2)] == ["container_invalid_state"] * 2
        assert desk.runs == ["r1"]

    at_desk(tmp_path, work)


def test_the_result_is_stored_before_the_reply_goes_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok
        stored = desk.room.journal.find_request("r1")
        assert stored is not None and stored.done
        assert stored.args == b""

    at_desk(tmp_path, work)


def test_a_known_id_answers_after_a_restart_without_running_again(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok

    async def second(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok == {"outcome": "delivered"}
        assert desk.runs == []

    at_desk(tmp_path, first)
    at_desk(tmp_path, second)


@pytest.mark.parametrize("done", [True, False])
def test_one_id_for_two_contents_is_a_conflict(tmp_path: Path, done: bool) -> None:
    async def work(desk: Desk) -> None:
        if not done:
            desk.let_through.clear()
        desk.send("kill", KILL)
        if done:
            await desk.answers.next()
        for op, args in (("kill", KillArgs(container="other")), ("pause", ContainerTarget(container="c1"))):
            desk.send(op, args)
            assert (await desk.answers.next()).code == "request_conflict"
        desk.let_through.set()

    at_desk(tmp_path, work)


def test_an_unknown_id_of_another_epoch_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        answer = await desk.ask("kill", KILL, epoch="0" * 16)
        assert answer.code == "outcome_unknown"
        assert answer.error.details == {"epoch": desk.room.journal.epoch}
        assert (await desk.ask("kill", KILL, id="r2", epoch=desk.room.journal.epoch)).ok
        assert desk.runs == ["r2"]

    at_desk(tmp_path, work)


def test_an_unknown_id_first_sent_before_records_were_lost_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL, age_ms=60_000)).ok, "a first journal has lost nothing"
        desk.room.journal.new_epoch("journal lost")
        assert (await desk.ask("kill", KILL, id="r2", age_ms=60_000)).code == "outcome_unknown"
        assert (await desk.ask("kill", KILL, id="r3", age_ms=60_000, epoch=desk.room.journal.epoch)).ok
        assert (await desk.ask("kill", KILL, id="r4")).ok
        assert desk.runs == ["r1", "r3", "r4"]

    at_desk(tmp_path, work)


def test_an_unknown_id_older_than_the_records_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        kept_ms = int(desk.room.settings.requests_kept_s * 1000)
        assert (await desk.ask("kill", KILL, age_ms=kept_ms + 1)).code == "outcome_unknown"
        assert (await desk.ask("kill", KILL, id="r2", age_ms=kept_ms)).ok
        assert desk.runs == ["r2"]

    at_desk(tmp_path, work)


def test_a_known_id_answers_whatever_its_age_and_epoch(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok
        assert (await desk.ask("kill", KILL, epoch="0" * 16, age_ms=1 << 40)).ok

    at_desk(tmp_path, work)


def test_what_was_under_way_when_the_worker_ended_and_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.requests.go_on(RequestRecord(id="r1", op="kill", digest=b"d", args=b"\xc1"))
        await desk.room.journal.durable()
        stored = desk.room.journal.find_request("r1")
        assert stored is not None and b"outcome_unknown" in stored.reply

    at_desk(tmp_path, work)


def test_what_was_under_way_goes_on_and_a_repeat_joins_it(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        desk.let_through.clear()
        desk.send("kill", KILL)
        await desk.room.journal.durable()

    async def second(desk: Desk) -> None:
        (record,) = desk.room.journal.store.unfinished_requests()
        desk.requests.go_on(record)
        assert (await desk.ask("kill", KILL)).ok
        assert desk.runs == ["r1"]

    at_desk(tmp_path, first)
    at_desk(tmp_path, second)


def test_a_command_cancelled_before_it_arrives_never_runs(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("cancel", CancelArgs(id="late"), id="x1")).ok == {"outcome": "cancelled"}
        assert (await desk.ask("kill", KILL, id="late")).code == "cancelled"
        assert (await desk.ask("cancel", CancelArgs(id="late"), id="x2")).ok == {"outcome": "cancelled"}
        assert desk.runs == []

    at_desk(tmp_path, work)


def test_a_command_that_comes_while_its_cancel_is_being_written_does_not_run(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.send("cancel", CancelArgs(id="late"), id="x1")
        for _ in range(3):  # the cancel has begun, the disk has not answered
            await asyncio.sleep(0)
        desk.send("kill", KILL, id="late")
        assert {(await desk.answers.next()).code for _ in range(2)} == {"", "cancelled"}
        assert desk.runs == []

    at_desk(tmp_path, work)


def test_a_command_that_has_not_taken_effect_can_be_cancelled(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        desk.send("pause", ContainerTarget(container="c1"))
        assert (await desk.ask("cancel", CancelArgs(id="r1"), id="x1")).ok == {"outcome": "cancelled"}
        desk.let_through.set()
        assert (await desk.answers.next()).code == "cancelled"
        assert desk.runs == []

    at_desk(tmp_path, work)


def test_cancel_comes_too_late_for_what_has_begun_or_is_done(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        desk.send("kill", KILL)
        await desk.room.journal.durable()
        assert (await desk.ask("cancel", CancelArgs(id="r1"), id="x1")).ok == {"outcome": "too_late"}
        desk.let_through.set()
        assert (await desk.answers.next()).ok == {"outcome": "delivered"}
        assert (await desk.ask("cancel", CancelArgs(id="r1"), id="x2")).ok == {"outcome": "too_late"}

    at_desk(tmp_path, work)


def test_what_was_cancelled_stays_so_for_the_next_worker(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        desk.let_through.clear()
        desk.send("pause", ContainerTarget(container="c1"))
        assert (await desk.ask("cancel", CancelArgs(id="r1"), id="x1")).ok == {"outcome": "cancelled"}

    async def second(desk: Desk) -> None:
        (record,) = desk.room.journal.store.unfinished_requests()
        desk.requests.go_on(record)
        desk.send("pause", ContainerTarget(container="c1"))
        assert (await desk.answers.next()).code == "cancelled"
        assert desk.runs == []

    at_desk(tmp_path, first)
    at_desk(tmp_path, second)


def test_what_an_earlier_worker_may_have_begun_cannot_be_cancelled(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        args = pack(ContainerTarget(container="c1"))
        deadline_ms = desk.room.journal.worker_ms() + 5_000
        desk.requests.go_on(RequestRecord(id="r1", op="pause", digest=b"d", args=args, deadline_ms=deadline_ms))
        assert (await desk.ask("cancel", CancelArgs(id="r1"), id="x1")).ok == {"outcome": "too_late"}
        desk.let_through.set()

    at_desk(tmp_path, work)


def test_at_its_deadline_a_command_is_answered_goes_on_and_its_result_can_be_asked_for(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        desk.let_through.clear()
        began_s = loop.time()
        answer = await desk.ask("kill", KILL, timeout_ms=150)
        assert answer.code == "deadline_exceeded"
        assert 0.14 <= loop.time() - began_s < 0.25
        assert (await desk.ask("result", ResultArgs(id="r1"), id="q1")).ok == {"state": "running", "op": "kill"}
        desk.let_through.set()
        while (late := (await desk.ask("result", ResultArgs(id="r1"), id="q2")).ok)["state"] == "running":
            await desk.room.journal.durable()
        assert late == {"state": "done", "op": "kill", "ok": {"outcome": "delivered"}}
        assert desk.runs == ["r1"]

    at_desk(tmp_path, work)


def test_each_who_waits_has_his_own_deadline(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        desk.send("kill", KILL, timeout_ms=50)
        desk.send("kill", KILL, timeout_ms=5_000)
        assert (await desk.answers.next()).code == "deadline_exceeded"
        desk.let_through.set()
        assert (await desk.answers.next()).ok == {"outcome": "delivered"}

    at_desk(tmp_path, work)


def test_a_command_that_arrives_after_its_deadline_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL, timeout_ms=0)).code == "deadline_exceeded"
        assert desk.runs == []
        assert (await desk.ask("result", ResultArgs(id="r1"), id="q1")).ok == {"state": "unknown"}

    at_desk(tmp_path, work)


def test_a_query_is_answered_by_its_deadline(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.let_through.clear()
        assert (await desk.ask("state", ContainerTarget(container="c1"), timeout_ms=50)).code == "deadline_exceeded"

    at_desk(tmp_path, work)


def test_the_result_of_a_failure_is_its_error(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.ask("resume", ContainerTarget(container="c1"))
        found = (await desk.ask("result", ResultArgs(id="r1"), id="q1")).ok
        assert (found["state"], found["error"]["code"]) == ("done", "container_invalid_state")
        assert (await desk.ask("result", ResultArgs(id="never"), id="q2")).ok == {"state": "unknown"}

    at_desk(tmp_path, work)


def test_a_bug_in_a_handler_is_answered_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(desk: Desk) -> None:
        answer = await desk.ask("create", CreateArgs(container="c1", bundle="/b"))
        assert (answer.code, "a bug" in answer.error.message) == ("runtime_failed", True)

    at_desk(tmp_path, work)
    assert "handler of create failed" in caplog.text


@pytest.mark.parametrize(
    ("op", "args", "code"),
    [
        ("no_such_op", Nothing(), "unsupported_op"),
        ("guests", Nothing(), "unsupported_op"),
        ("kill", Nothing(), "bad_request"),
        ("kill", KillArgs(container="c1", signal=65), "bad_request"),
        ("state", Nothing(), "bad_request"),
    ],
)
def test_what_cannot_be_understood_is_refused_and_leaves_no_record(tmp_path: Path, op: str, args: Message, code: str) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask(op, args)).code == code
        await desk.room.journal.durable()
        assert desk.room.journal.find_request("r1") is None
        assert desk.requests.counters["refused"] == 1

    at_desk(tmp_path, work)


def test_arguments_that_are_no_msgpack_are_refused(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.requests.take(None, CommandHeader(id="r1", op="kill", timeout_ms=1_000), b"\xc1garbage", asyncio.get_running_loop().time())
        assert (await desk.answers.next()).code == "bad_request"

    at_desk(tmp_path, work)


def test_on_a_full_disk_only_what_frees_space_is_begun(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.room.journal.full = True
        assert (await desk.ask("pause", ContainerTarget(container="c1"))).code == "storage_full"
        assert (await desk.ask("kill", KILL, id="r2")).ok

    at_desk(tmp_path, work)
