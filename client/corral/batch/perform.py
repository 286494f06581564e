"""One attempt at one target: the command, the wait for its process, and what is to be done when its time is over."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from corral.batch.keep import keep
from corral.batch.moves import Result, Send
from corral.batch.plan import PROCESS_OPS, Step
from corral.batch.records import Outcome
from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, CancelReply, CreateReply, ExecReply
from corral_schemas.errors import CorralError, error, from_wire
from corral_schemas.exits import Exit, describe, shell_status
from corral_schemas.frames import pack
from corral_schemas.limits import REQUESTS_KEPT_S
from corral_schemas.names import INIT
from corral_schemas.ops import OPS
from corral_schemas.queries import InfoReply, ResultArgs, ResultReply, WaitArgs

if TYPE_CHECKING:
    from corral.async_client import AsyncClient
    from corral.process import Process

COMMAND_TIMEOUT_S = 600.0
"""Deadline of a command; a guest that dies is noticed long before, and the step's own timeout gives it up."""
PATIENCE_S = 30.0
"""How long a guest may be out of reach in the middle of a target before what became of it is unknown."""
GIVE_UP_S = 15.0
"""How long killing or cancelling may take."""
SENT_TIMES_MAX = 5
REMEMBERED_NS = int(REQUESTS_KEPT_S * 0.9e9)
"""A request that is older, and unknown to its guest, may have been forgotten by it."""


class Order(NamedTuple):
    """To give an attempt up."""

    reason: str
    outcome: Outcome


class _UnknownError(Exception):
    """What became of the command cannot be found out."""


class Performer:
    """Carries out attempts of one run. `result_path(step, number, suffix)` says where results go."""

    def __init__(self, client: "AsyncClient", result_path: Callable[[str, int, str], Path], *, patience_s: float = PATIENCE_S) -> None:
        self._client, self._result_path, self._patience_s = client, result_path, patience_s

    async def perform(self, step: Step, send: Send, order: "asyncio.Future[Order]") -> Result:
        """The attempt's outcome; `order`: give it up once that is set. Cancelled, it leaves everything as it is. Raises OSError."""
        attempt = _Attempt(self._client, step, send, self._patience_s)
        work = asyncio.create_task(attempt.work())
        try:
            either: set[asyncio.Future[Any]] = {work, order}
            await asyncio.wait(either, timeout=step.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                result = work.result()
            else:
                work.cancel()
                await asyncio.wait({work})
                late = Order(f"not done after {step.timeout_s or 0:g} s", "timeout")
                result = await attempt.give_up(order.result() if order.done() else late)
        finally:
            work.cancel()
        received_bytes = await keep(
            lambda suffix: self._result_path(step.name, send.target.number, suffix),
            send,
            result,
            reply=attempt.reply,
            process=attempt.process,
            end=attempt.exit,
        )
        return replace(result, started_ns=attempt.began_ns, sent_bytes=attempt.sent_bytes, received_bytes=received_bytes)


class _Attempt:
    def __init__(self, client: "AsyncClient", step: Step, send: Send, patience_s: float) -> None:
        self._client, self._op, self._sent, self._ask_first, self._patience_s = client, step.op, send.sent, send.ask_first, patience_s
        self._lasts = step.op in PROCESS_OPS and not step.detach
        self.began_ns = send.sent.time_ns
        self.sent_bytes = 0
        self.reply: Message | None = None
        self.process: Process | None = None
        self.exit: Exit | None = None

    async def work(self) -> Result:
        """From the command to the outcome."""
        try:
            args = msgspec.convert(self._sent.args, OPS[self._op].args)
        except msgspec.ValidationError as why:
            return Result("failed", f"its arguments are wrong: {why}")
        self.sent_bytes = len(pack(args))
        try:
            if isinstance(args, WaitArgs):
                return await self._wait(self._process(args.container, args.instance, args.process, args.process_instance))
            return await self._done(await self._answer(args))
        except _UnknownError as why:
            return Result("unknown", str(why), settled=False)
        except CorralError as why:
            return _failure(why)

    async def give_up(self, order: Order) -> Result:
        """Kills what was started, or sees to it that nothing will be."""
        try:
            if self._op == "wait" or not OPS[self._op].mutating:
                return Result(order.outcome, order.reason)
            if self.process is None:
                async with asyncio.timeout(GIVE_UP_S):
                    settled = await self._cancel(order)
                if settled is not None:
                    return settled
            return await self._kill(order)
        except (CorralError, _UnknownError, TimeoutError) as why:
            return Result("unknown", f"{order.reason}; then: {why or 'no answer'}", settled=False)

    # -- the command -------------------------------------------------------------------------------------------------------------

    async def _answer(self, args: Message) -> Message:
        """The command's reply, whatever it takes to get it, without it being carried out twice. Raises CorralError, _UnknownError."""
        guest, request = self._sent.guest, self._sent.request
        mutating = OPS[self._op].mutating
        if self._ask_first and mutating and (known := await self._asked()) is not None:
            return known
        for turn in range(SENT_TIMES_MAX):
            age_s = max(0.001, (time.time_ns() - self._sent.time_ns) / 1e9) if turn or self._ask_first else 0.0
            try:
                return await self._client.call(
                    guest, self._op, args, timeout_s=COMMAND_TIMEOUT_S, request_id=request, epoch=self._sent.epoch, age_s=age_s
                )
            except CorralError as why:
                maybe_sent = why.code == "deadline_exceeded" or (why.code == "guest_unreachable" and bool(why.details.get("sent")))
                if not maybe_sent and not (self._ask_first and why.code == "guest_unreachable"):
                    raise
                if not mutating:
                    raise error("guest_unreachable", why.message) from why
            if (known := await self._asked()) is not None:
                return known
        raise _UnknownError(f"sent {SENT_TIMES_MAX} times, and {guest} was lost each time")

    async def _asked(self) -> Message | None:
        """The reply that the guest keeps; None: it runs, or never came there, and to send it again is right. Raises as _answer."""
        guest = self._sent.guest
        try:
            asked = await self._ask("result", ResultArgs(id=self._sent.request))
            assert isinstance(asked, ResultReply)
            if asked.state == "unknown":
                await self._check_memory()
        except CorralError as why:
            raise _UnknownError(f"{guest} cannot be asked what became of it: {why.message}") from why
        if asked.state != "done":
            return None
        if asked.error is not None:
            raise from_wire(asked.error)
        return msgspec.convert(asked.ok or {}, OPS[self._op].reply)

    async def _check_memory(self) -> None:
        """Raises _UnknownError where the guest may have forgotten the request in place of never having got it."""
        info = await self._ask("info")
        assert isinstance(info, InfoReply)
        if info.epoch != self._sent.epoch:
            raise _UnknownError(f"{self._sent.guest} has lost its records since it was sent")
        if time.time_ns() - self._sent.time_ns > REMEMBERED_NS:
            raise _UnknownError(f"sent too long ago for {self._sent.guest} to remember")

    async def _ask(self, op: str, args: Message | None = None) -> Message:
        asked = args if args is not None else OPS[op].args()
        return await self._client.call(self._sent.guest, op, asked, timeout_s=self._patience_s, retry_unreachable=True)

    # -- the process -------------------------------------------------------------------------------------------------------------

    async def _done(self, reply: Message) -> Result:
        self.reply = reply
        if not self._lasts:
            return Result("ok")
        if isinstance(reply, CreateReply | ExecReply) and reply.exit is not None:
            self.process, self.exit = self._process_of(reply), reply.exit
            return _of_exit(reply.exit)
        return await self._wait(self._process_of(reply))

    async def _wait(self, process: "Process") -> Result:
        self.process = process
        try:
            self.exit = await process.wait()
        except CorralError as why:
            if self._op == "wait" and why.code != "guest_unreachable":
                raise
            return Result("unknown", f"how it ended is not known: {why.message}", settled=False)
        return _of_exit(self.exit)

    def _process_of(self, reply: Message) -> "Process":
        if isinstance(reply, ExecReply):
            return self._process(reply.container, reply.instance, reply.process, reply.process_instance)
        assert isinstance(reply, CreateReply)
        return self._process(reply.container, reply.instance, INIT, reply.process_instance)

    def _process(self, container: str, instance: str, process: str, process_instance: str) -> "Process":
        return self._client.guest(self._sent.guest).container(container, instance).process(process, process_instance)

    # -- giving up ---------------------------------------------------------------------------------------------------------------

    async def _cancel(self, order: Order) -> Result | None:
        """None when it had begun a process by then, which is in `process` now."""
        age_ms = max(0, (time.time_ns() - self._sent.time_ns) // 1_000_000)
        given_up = CancelArgs(id=self._sent.request, epoch=self._sent.epoch, age_ms=age_ms)
        cancelled = await self._client.call(self._sent.guest, "cancel", given_up, timeout_s=GIVE_UP_S)
        if isinstance(cancelled, CancelReply) and cancelled.outcome == "cancelled":
            return Result(order.outcome, order.reason)
        while True:
            try:
                reply = await self._asked()
            except CorralError as why:
                return _failure(why)
            if reply is not None:
                break
            await asyncio.sleep(0.1)  # it is being done: the op has no long poll
        self.reply = reply
        if self._op not in PROCESS_OPS:
            return Result("ok", f"{order.reason}, but it was done already")
        self.process = self._process_of(reply)
        return None

    async def _kill(self, order: Order) -> Result:
        process = self.process
        assert process is not None
        try:
            if process.process == INIT:
                await process.container.kill(9, all=True)
            else:
                await process.kill(9)
        except CorralError as why:
            if why.code not in ("container_not_running", "process_not_found", "container_not_found"):
                raise
        self.exit = await process.wait(GIVE_UP_S)
        return Result(order.outcome, order.reason, signal=self.exit.signal or 0)


def _of_exit(end: Exit) -> Result:
    if end.type == "lost":
        return Result("unknown", describe(end), settled=False)
    status = shell_status(end)
    return Result("ok" if status == 0 else "failed", "" if status == 0 else describe(end), status=status, signal=end.signal or 0)


def _failure(why: CorralError) -> Result:
    if why.code == "guest_unreachable":
        return Result("unreachable", why.message)
    if why.code in ("outcome_unknown", "request_conflict"):
        return Result("unknown", why.message, settled=False)
    status = {"command_not_found": 127, "command_not_executable": 126}.get(why.code)
    return Result("failed", str(why), status=status)
