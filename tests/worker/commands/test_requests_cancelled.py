"""What is cancelled in time never takes effect, whichever comes first; what has begun goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from corral_schemas.commands import CancelArgs, ContainerTarget
from corral_schemas.frames import pack
from corral_schemas.queries import WaitArgs
from corral_testkit.desk import KILL, Desk, at_desk
from corral_worker.journal.records import RequestRecord


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


def test_a_wait_that_is_cancelled_ends_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """PROTOCOL.md R-26."""

    async def work(desk: Desk) -> None:
        desk.room.container()
        await desk.room.journal.durable()
        wait = WaitArgs(container="c1", timeout_ms=60_000)
        for begun in (True, False):  # it waits already, or has only just come
            desk.send("wait", wait, id="w1")
            if begun:
                await asyncio.sleep(0)
            desk.send("cancel", CancelArgs(id="w1"), id="x1")
            answers = {answer.id: answer for answer in [await desk.answers.next() for _ in range(2)]}
            assert (answers["w1"].code, answers["x1"].ok) == ("cancelled", {"outcome": "cancelled"})
        assert (await desk.ask("wait", WaitArgs(container="c1", timeout_ms=20), id="w1")).code == "wait_timeout"
        assert not desk.requests._polls._all

    at_desk(tmp_path, work)


def test_a_cancel_of_itself_is_too_late(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("cancel", CancelArgs(id="x1"), id="x1")).ok == {"outcome": "too_late"}

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


def test_what_may_have_run_before_its_record_was_lost_is_not_called_cancelled_and_does_not_run(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        lost = desk.room.journal.epoch
        desk.room.journal.new_epoch("journal lost")
        of_old_epoch = CancelArgs(id="r1", epoch=lost)
        before_the_loss = CancelArgs(id="r2", age_ms=60_000)
        for args in (of_old_epoch, before_the_loss, of_old_epoch):  # whoever repeats a cancel is told the same
            assert (await desk.ask("cancel", args, id="x1")).code == "outcome_unknown"
        assert (await desk.ask("cancel", CancelArgs(id="r3"), id="x2", age_ms=60_000)).code == "outcome_unknown"
        for sent in ("r1", "r2", "r3"):
            assert (await desk.ask("kill", KILL, id=sent)).code == "outcome_unknown"
        assert (await desk.ask("cancel", CancelArgs(id="r4", epoch=desk.room.journal.epoch), id="x3")).ok == {"outcome": "cancelled"}
        assert (await desk.ask("kill", KILL, id="r4")).code == "cancelled"
        assert desk.runs == []

    at_desk(tmp_path, work)


def test_a_repeat_from_before_the_loss_is_not_answered_by_a_cancel_from_after_it(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        lost = desk.room.journal.epoch
        desk.room.journal.new_epoch("journal lost")
        now = desk.room.journal.epoch
        assert (await desk.ask("cancel", CancelArgs(id="r1", epoch=now), id="x1")).ok == {"outcome": "cancelled"}
        assert (await desk.ask("kill", KILL, id="r1", epoch=lost)).code == "outcome_unknown"
        assert (await desk.ask("kill", KILL, id="r1", epoch=now)).code == "cancelled"
        assert desk.runs == []

    at_desk(tmp_path, work)
