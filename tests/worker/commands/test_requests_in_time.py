"""Every command is answered by its deadline, and its result can be asked for afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

from corral_schemas.commands import ContainerTarget
from corral_schemas.queries import ResultArgs
from corral_testkit.desk import KILL, Desk, at_desk


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
