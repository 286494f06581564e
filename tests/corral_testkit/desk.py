"""The worker's requests over a real journal, with handlers in a test's hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, ContainerTarget, CreateArgs, KillArgs, KillReply
from corral_schemas.errors import error
from corral_schemas.frames import CommandHeader, pack
from corral_schemas.queries import ResultArgs
from corral_schemas.stdio import Done
from corral_testkit.bounded import run
from corral_testkit.guests import Answers, Room, open_room
from corral_worker.base.tasks import Tasks
from corral_worker.commands.execution import Execution
from corral_worker.commands.handlers import query
from corral_worker.commands.requests import Requests
from corral_worker.containers.guest import Guest

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
            {"cancel": self._cancel, "result": self._result, "state": self._query, "replay": query.replay, "wait": query.wait},
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

    async def _change(self, guest: Guest, args: KillArgs, execution: Execution) -> Message:
        execution.begun = True
        self.runs.append(execution.id)
        await self.let_through.wait()
        return KillReply(outcome="delivered")

    async def _before_effect(self, guest: Guest, args: ContainerTarget, execution: Execution) -> Message:
        await self.let_through.wait()
        execution.check_not_cancelled()
        self.runs.append(execution.id)
        return Done()

    async def _fail(self, guest: Guest, args: ContainerTarget, execution: Execution) -> Message:
        self.runs.append(execution.id)
        raise error("container_invalid_state", "not paused")

    async def _crash(self, guest: Guest, args: CreateArgs, execution: Execution) -> Message:
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
