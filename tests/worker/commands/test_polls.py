"""Long polls at the worker: answered before their deadline, once however often they come, and nothing stays of those that have ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corral_schemas.exits import Exit
from corral_schemas.queries import ReplayArgs, WaitArgs
from corral_testkit.desk import Desk, at_desk

WAIT = WaitArgs(container="c1", timeout_ms=60_000)


def beyond(desk: Desk) -> ReplayArgs:
    """A poll for the next event, a minute long."""
    return ReplayArgs(epoch=desk.room.journal.epoch, after=desk.room.journal.last_seq, wait_ms=60_000)


def test_a_poll_that_asks_for_more_time_than_it_has_is_answered_with_nothing_before_its_deadline(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.room.container()
        await desk.room.journal.durable()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        replayed = await desk.ask("replay", beyond(desk), timeout_ms=300)
        assert (replayed.code, replayed.ok["events"]) == ("", [])
        assert 0.26 <= loop.time() - began_s < 0.3
        assert (await desk.ask("wait", WAIT, timeout_ms=100)).code == "wait_timeout"
        assert (await desk.ask("wait", WAIT, timeout_ms=0)).code in ("wait_timeout", "deadline_exceeded")

    at_desk(tmp_path, work)


def test_a_poll_that_comes_again_joins_the_one_under_way_and_may_have_a_later_deadline(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        container = desk.room.container()
        await desk.room.journal.durable()
        desk.send("wait", WAIT, timeout_ms=50)
        await asyncio.sleep(0)
        desk.send("wait", WAIT, timeout_ms=5_000)
        desk.send("wait", WaitArgs(container="c1", timeout_ms=1), timeout_ms=5_000)  # the same id, and another question
        assert (await desk.answers.next()).code == "wait_timeout"
        assert desk.requests.counters["repeats"] == 1
        assert [(await desk.answers.next()).code for _ in range(2)] == ["wait_timeout"] * 2
        desk.send("wait", WAIT)
        desk.send("wait", WAIT)
        init = desk.room.init(container)
        init.exit = Exit(type="exited", code=7)
        desk.room.guest.waiters.tell_changed(init)
        ends = [await desk.answers.next() for _ in range(2)]
        assert [end.ok and end.ok["exit"]["code"] for end in ends] == [7, 7]
        assert desk.requests.counters["repeats"] == 2

    at_desk(tmp_path, work)


@pytest.mark.guarantee(25)
def test_of_polls_that_have_ended_in_a_silent_guest_nothing_stays(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.room.container()
        await desk.room.journal.durable()
        waiters = desk.room.guest.waiters
        for number in range(20):
            desk.send("replay", beyond(desk), id=f"replay-{number}", timeout_ms=30)
            desk.send("wait", WAIT, id=f"wait-{number}", timeout_ms=30)
        for _ in range(40):
            await desk.answers.next()
        assert (len(waiters._for_event), len(waiters._by_process)) == (0, 0)
        assert not desk.requests._polls._under_way

    at_desk(tmp_path, work)
