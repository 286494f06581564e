"""One command on its way: who waits for it, until when, and how it has a shim carry out a step."""

import asyncio
import os
import time
from typing import Any

from corral_schemas.base import Message
from corral_schemas.errors import CorralError, error, to_wire
from corral_schemas.frames import pack
from corral_worker.containers.guest import Guest, response_error
from corral_worker.journal.records import ContainerRecord, RequestRecord
from corral_worker.runtime.runtime_errors import error_for
from corral_worker.shims.port import Body, ShimGoneError, ShimLink


def body_of(outcome: Message | CorralError) -> bytes:
    """The body frame of a reply."""
    return pack({"error": to_wire(outcome)} if isinstance(outcome, CorralError) else {"ok": outcome})


def settle(guest: Guest, record: RequestRecord, outcome: Message | CorralError) -> None:
    """Records how a request ended: no later worker takes it up again."""
    record.reply, record.args = body_of(outcome), b""
    guest.journal.save(record)


class Execution:
    """A state-changing command between its intent and its result."""

    def __init__(self, guest: Guest, record: RequestRecord, args: Message, *, redo: bool = False) -> None:
        self.guest, self.record, self.args, self.redo = guest, record, args, redo
        left_s = (record.deadline_ms - guest.journal.worker_ms()) / 1000
        self.deadline_s = asyncio.get_running_loop().time() + left_s
        self.recorded: asyncio.Future[None] = guest.journal.durable()
        """The intent is on disk: await it before an effect that must not happen twice."""
        self.routes: list[Any] = []  # who gets the reply
        self.timers: list[asyncio.TimerHandle] = []  # of those who wait: each is told at his own deadline
        self.begun = redo and not record.cancelled
        """An effect may have taken place (by an earlier worker, say): cancel comes too late to be sure."""
        self._steps: list[tuple[ShimLink, str, str]] = []  # to be acknowledged once the result is on disk
        self.task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.record.id

    def end_timers(self) -> None:
        """Nobody waits any more: a timer left in the loop would keep all of this command until its deadline."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def left_ms(self) -> int:
        """Milliseconds until the deadline, at least 1."""
        return max(1, int((self.deadline_s - asyncio.get_running_loop().time()) * 1000))

    def remember(self, container: ContainerRecord, process_instance: str = "") -> None:
        """Notes in the intent which instance it makes, so that going on after a restart makes no second one."""
        self.record.instance, self.record.process_instance = container.instance, process_instance
        self.guest.journal.save(self.record)
        self.recorded = self.guest.journal.durable()

    def check_not_cancelled(self) -> None:
        if self.record.cancelled:
            raise error("cancelled", "given up by cancel before it took effect")

    async def step(self, link: ShimLink, step: str, *, suffix: str = "", blob: bytes = b"", **body: Any) -> Body:
        """Has the shim carry out one step of this command, once. Returns its `ok`. Raises the CorralError of its failure.

        Raises outcome_unknown when the shim dies before it answers, deadline_exceeded for a step not begun by the deadline.
        """
        self.check_not_cancelled()
        request_id = self.id + suffix
        if self.deadline_s <= asyncio.get_running_loop().time() and not link.knows(request_id, step):
            raise error("deadline_exceeded", f"the deadline passed before {step} was begun; it was not done")
        self.begun = True
        self._steps.append((link, request_id, step))
        try:
            response = await link.request(request_id, step, blob, **body)
        except ShimGoneError:
            raise error("outcome_unknown", f"the container's shim died during {step}; the container was ended") from None
        failure = response_error(response, error_for)
        if failure is not None:
            raise failure
        return dict(response["ok"])

    async def runtime_step(self, link: ShimLink, step: str, argv: list[str], *, suffix: str = "", **body: Any) -> Body:
        """A step that calls the runtime: takes a slot, has the deadline."""
        async with self.guest.turns.runtime_slot(self.deadline_s if not link.knows(self.id + suffix, step) else None):
            return await self.step(link, step, suffix=suffix, argv=argv, timeout_ms=self.left_ms(), **body)

    def acknowledge(self) -> None:
        """The result is on disk: the shims may forget their parts."""
        for link, request_id, step in self._steps:
            link.acknowledge(request_id, step)
        self._steps.clear()


def internal_execution(guest: Guest, request_id: str, args: Message, *, timeout_s: float) -> Execution:
    """An execution for what the worker does of its own accord (auto-delete, clean-up): not recorded, answered to nobody."""
    deadline_ms = guest.journal.worker_ms() + int(timeout_s * 1000)
    record = RequestRecord(
        id=request_id, op="", digest=os.urandom(4), deadline_ms=deadline_ms, recorded_ms=time.monotonic_ns() // 1_000_000
    )
    return Execution(guest, record, args)
