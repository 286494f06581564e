"""Commands: one result however often it is asked for; what cannot be done is refused. Handlers are the test's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corral_schemas.base import Message
from corral_schemas.commands import ContainerTarget, CreateArgs, KillArgs
from corral_schemas.frames import CommandHeader
from corral_schemas.queries import Nothing
from corral_testkit.desk import KILL, Desk, at_desk
from corral_worker.commands import requests


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
