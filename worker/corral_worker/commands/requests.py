"""From a command's frames to its reply: deduplication by request id, deadlines, one result however often it is asked for."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, CancelReply
from corral_schemas.errors import CorralError, DeadlineError, WireError, error
from corral_schemas.frames import CommandHeader, decode_args, op_named, unpack
from corral_schemas.limits import IN_FLIGHT_PER_GUEST_MAX, WAITS_PER_GUEST_MAX
from corral_schemas.names import check_request_id
from corral_schemas.queries import ResultArgs, ResultReply
from corral_worker.base.tasks import Tasks
from corral_worker.commands.execution import Execution, body_of, settle
from corral_worker.commands.polls import Asked, Polls, in_time
from corral_worker.containers.guest import Guest
from corral_worker.journal.records import RequestRecord
from corral_worker.shim.base.linux import is_exhausted

log = logging.getLogger(__name__)

Send = Callable[[Any, CommandHeader, bytes], None]
"""(route, header, reply body) → on the wire."""
Query = Callable[[Guest, Any], Awaitable[Message]]
Change = Callable[[Guest, Any, Execution], Awaitable[Message]]

CHANGES_MAX = 4 * IN_FLIGHT_PER_GUEST_MAX
"""State-changing commands under way, from all brokers: beyond what a few of them may have in flight; the next is refused, and counted."""
QUERIES_MAX = 4 * (IN_FLIGHT_PER_GUEST_MAX + WAITS_PER_GUEST_MAX)
"""Likewise commands that only ask, long polls among them."""
FREES_SPACE = frozenset({"kill", "stop", "delete", "resume", "remove_bundle", "collect_bundles"})
"""Still accepted when the disk is full."""


class _StoredBody(msgspec.Struct):
    ok: dict[str, Any] | None = None
    error: WireError | None = None


class Requests:
    """Admits commands, runs their handlers, answers. One instance per worker."""

    def __init__(
        self,
        guest: Guest,
        queries: dict[str, Query],
        changes: dict[str, Change],
        send: Send,
        tasks: Tasks,
        views: dict[str, type[Message]] | None = None,
    ) -> None:
        """views: queries whose arguments are read into another Struct than the contract's, without a copy of the bytes in them."""
        self._views = views or {}
        self._guest, self._queries, self._changes, self._send, self._tasks = guest, queries, changes, send, tasks
        self._executions: dict[str, Execution] = {}  # request id -> state-changing command under way
        self._given_up: dict[str, RequestRecord] = {}  # request id -> tombstone of cancel that is not on disk yet
        self.counters: dict[str, int] = {"commands": 0, "repeats": 0, "refused": 0, "busy": 0}
        self._polls, self._queries_under_way = Polls(), 0

    def take(self, route: Any, header: CommandHeader, args_frame: bytes, received_s: float) -> None:
        """One command from a broker. `received_s` (loop time): when it can have arrived at the earliest."""
        self.counters["commands"] += 1
        try:
            check_request_id(header.id)
            op_named(header.op)
            deadline_s = received_s + header.timeout_ms / 1000
            if header.op in self._changes:
                self._admit(route, header, bytes(args_frame), deadline_s)  # kept: no view of a buffer that others own
                return
            query = self._queries.get(header.op)
            if query is None:
                raise error("unsupported_op", f"op {header.op} is not for guests", op=header.op)
            view = self._views.get(header.op)
            args = decode_args(header.op, args_frame) if view is None else unpack(view, args_frame, f"arguments of {header.op}")
            if isinstance(args, CancelArgs):  # what it gives up was sent before it
                args = msgspec.structs.replace(args, epoch=args.epoch or header.epoch, age_ms=args.age_ms + header.age_ms)
            if self._polls.join(route, header, args, deadline_s):
                self.counters["repeats"] += 1
                return
            self._check_room(self._queries_under_way, QUERIES_MAX)
            self._queries_under_way += 1
            self._tasks.start(self._ask(self._polls.begin(route, header, args, deadline_s), header.op, query))
        except CorralError as failure:
            self.counters["refused"] += 1
            self._send(route, header, body_of(failure))
        except Exception as bug:  # noqa: BLE001 - the asker gets an answer, the log the traceback
            self._send(route, header, body_of(_internal(header.op, bug)))

    # -- queries ------------------------------------------------------------------------------------------------------------

    async def _ask(self, asked: Asked, op: str, query: Query) -> None:
        outcome: Message | CorralError
        args = in_time(asked.args, asked.deadline_s - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout_at(asked.deadline_s) as asked.limit:
                outcome = await query(self._guest, args)
        except TimeoutError:
            outcome = error("deadline_exceeded", f"{op} was not answered by its deadline")
        except CorralError as failure:
            outcome = failure
        except Exception as bug:  # noqa: BLE001 - the asker gets an answer, the log the traceback
            outcome = _internal(op, bug)
        finally:
            self._queries_under_way -= 1
            self._polls.end(asked)
        if asked.given_up and isinstance(outcome, DeadlineError):
            outcome = error("cancelled", f"{op} was given up by cancel")
        body = body_of(outcome)
        for route, header in asked.copies:
            self._send(route, header, body)

    def _check_room(self, under_way: int, limit: int) -> None:
        """Brokers give a guest no more commands than this; a worker does not rely on it. Raises guest_busy."""
        if under_way >= limit:
            self.counters["busy"] += 1
            raise error("guest_busy", f"{under_way} commands are under way here; ask again when some are done", limit=limit, sent=False)

    # -- state-changing commands ---------------------------------------------------------------------------------------------

    def _admit(self, route: Any, header: CommandHeader, args_frame: bytes, deadline_s: float) -> None:
        digest = hashlib.blake2b(header.op.encode() + b"\0" + args_frame, digest_size=16).digest()
        execution = self._executions.get(header.id)
        known = execution.record if execution is not None else self._given_up.get(header.id) or self._guest.journal.find_request(header.id)
        if known is not None:
            self._repeat(route, header, digest, known, execution, deadline_s)
            return
        args = decode_args(header.op, args_frame)
        self._check_new(header, deadline_s)
        self._check_room(len(self._executions), CHANGES_MAX)
        deadline_ms = self._guest.journal.worker_ms() + max(0, int((deadline_s - asyncio.get_running_loop().time()) * 1000))
        record = RequestRecord(
            id=header.id,
            op=header.op,
            digest=digest,
            args=args_frame,
            deadline_ms=deadline_ms,
            recorded_ms=self._guest.journal.worker_ms(),
        )
        self._guest.journal.save(record)
        execution = Execution(self._guest, record, args)
        self._launch(execution)
        self._join(route, header, execution, deadline_s)

    def _check_new(self, header: CommandHeader, deadline_s: float) -> None:
        """An id never seen is carried out only where that cannot be the second time."""
        journal, settings = self._guest.journal, self._guest.settings
        if header.epoch and header.epoch != journal.epoch:
            raise error(
                "outcome_unknown", f"sent for epoch {header.epoch}, now it is {journal.epoch}; not carried out", epoch=journal.epoch
            )
        if not header.epoch and journal.may_have_forgotten(header.age_ms):
            raise error("outcome_unknown", "first sent before this guest lost its records; not carried out", epoch=journal.epoch)
        if header.age_ms > settings.requests_kept_s * 1000:
            raise error("outcome_unknown", "older than request records are kept; not carried out", kept_s=settings.requests_kept_s)
        if deadline_s <= asyncio.get_running_loop().time():
            raise error("deadline_exceeded", "the deadline had passed when it arrived; not carried out")
        if journal.full and header.op not in FREES_SPACE:
            raise error("storage_full", f"the disk of {settings.paths.state} is full; delete containers or free space")

    def _repeat(
        self, route: Any, header: CommandHeader, digest: bytes, known: RequestRecord, execution: Execution | None, deadline_s: float
    ) -> None:
        self.counters["repeats"] += 1
        if known.digest and known.digest != digest:
            raise error("request_conflict", f"request id {header.id} was used for another {known.op} before", op=known.op)
        if execution is not None:
            self._join(route, header, execution, deadline_s)
        elif not known.digest and self._may_have_forgotten(header.epoch, header.age_ms):  # given up, but after it may have been done
            raise self._nobody_knows()
        elif known.done:
            self._send(route, header, known.reply)
        else:
            raise error("outcome_unknown", f"{known.op} was under way when the worker ended, and its outcome is not known")

    def _join(self, route: Any, header: CommandHeader, execution: Execution, deadline_s: float) -> None:
        """Adds one who waits for the reply; at his deadline he is told so, and the command goes on (see `result`)."""
        entry = (route, header)
        execution.routes.append(entry)
        execution.timers.append(asyncio.get_running_loop().call_at(deadline_s, self._give_up, execution, entry))

    def _give_up(self, execution: Execution, entry: tuple[Any, CommandHeader]) -> None:
        if entry in execution.routes:
            execution.routes.remove(entry)
            text = f"{execution.record.op} was not done by its deadline; ask `result` for how it ended"
            self._send(*entry, body_of(error("deadline_exceeded", text)))

    def _launch(self, execution: Execution, after: "asyncio.Task[None] | None" = None) -> None:
        self._executions[execution.id] = execution
        execution.task = self._tasks.start(self._fly(execution, after))

    async def _fly(self, execution: Execution, after: "asyncio.Task[None] | None") -> None:
        record = execution.record
        if after is not None:
            await asyncio.wait([after])
        if not record.done:
            settle(self._guest, record, await self._carried_out(execution))
        await self._guest.journal.durable()
        execution.acknowledge()
        del self._executions[execution.id]
        for route, header in execution.routes:
            self._send(route, header, record.reply)
        execution.routes.clear()
        execution.end_timers()

    async def _carried_out(self, execution: Execution) -> Message | CorralError:
        try:
            return await self._changes[execution.record.op](self._guest, execution.args, execution)
        except CorralError as failure:
            return failure
        except Exception as bug:  # noqa: BLE001 - the asker gets an answer, the log the traceback
            return _internal(execution.record.op, bug)

    # -- after a restart, and what is asked about requests --------------------------------------------------------------------

    def go_on(self, record: RequestRecord, after: "asyncio.Task[None] | None" = None) -> None:
        """Takes up a command that was under way when the last worker ended: the shims say what was done already.

        after: what is waited for first, and may settle the command itself. Who repeats the command meanwhile waits along.
        """
        try:
            args = decode_args(record.op, record.args)
        except CorralError as failure:
            log.error("request %s of the journal cannot be read: %s", record.id, failure)
            settle(self._guest, record, error("outcome_unknown", str(failure)))
            return
        self._launch(Execution(self._guest, record, args, redo=True), after)

    async def cancel(self, guest: Guest, args: CancelArgs) -> CancelReply:
        """Gives a command up, or ends a long poll. One that was never seen is noted, so that it will not be carried out when it comes.

        Raises outcome_unknown where it may have been carried out before its record was lost.
        """
        execution = self._executions.get(args.id)
        if execution is not None:
            if not execution.begun:
                execution.record.cancelled = True
                guest.journal.save(execution.record)
                await guest.journal.durable()  # else a worker that starts now would go on with it
                return CancelReply(outcome="cancelled")
            for link in list(guest.links.values()):
                if link.instance == execution.record.instance:
                    link.tell({"t": "cancel", "id": args.id})
            return CancelReply(outcome="too_late")
        known = guest.journal.find_request(args.id)
        if known is not None and known.digest:
            return CancelReply(outcome="too_late")
        asked = self._polls.give_up(args.id)
        if asked:
            return CancelReply(outcome=asked)
        lost = self._may_have_forgotten(args.epoch, args.age_ms)
        given_up = self._nobody_knows() if lost else error("cancelled", "given up by cancel before it arrived")
        if known is None:
            await self._note_given_up(args.id, given_up)
        if lost:
            raise given_up
        return CancelReply(outcome="cancelled")

    def _nobody_knows(self) -> CorralError:
        text = "the record that would tell is gone; it will not be carried out any more"
        return error("outcome_unknown", text, epoch=self._guest.journal.epoch)

    async def _note_given_up(self, request_id: str, outcome: CorralError) -> None:
        """From now on it is not carried out, whenever it comes; `outcome` is what it is answered then."""
        journal = self._guest.journal
        tombstone = RequestRecord(id=request_id, op="cancel", digest=b"", recorded_ms=journal.worker_ms(), reply=body_of(outcome))
        journal.save(tombstone)
        self._given_up[request_id] = tombstone  # the command may come while this is being written
        await journal.durable()
        self._given_up.pop(request_id, None)

    def _may_have_forgotten(self, epoch: str, age_ms: int) -> bool:
        """What was sent so long ago, to that epoch (empty: unstated), may have left a record that is here no longer."""
        journal = self._guest.journal
        lost = epoch != journal.epoch if epoch else journal.may_have_forgotten(age_ms)
        return lost or age_ms > self._guest.settings.requests_kept_s * 1000

    async def result(self, guest: Guest, args: ResultArgs) -> ResultReply:
        execution = self._executions.get(args.id)
        known = execution.record if execution is not None else guest.journal.find_request(args.id)
        if known is None:
            return ResultReply(state="unknown")
        if not known.done or execution is not None:
            return ResultReply(state="running", op=known.op)
        stored = msgspec.msgpack.decode(known.reply, type=_StoredBody)
        return ResultReply(state="done", op=known.op, ok=stored.ok, error=stored.error)


def _internal(op: str, bug: Exception) -> CorralError:
    if isinstance(bug, OSError) and is_exhausted(bug):
        log.error("%s cannot be done: %s", op, bug)
        return error("resource_exhausted", f"{op}: {bug}", errno=bug.errno or 0)
    log.error("handler of %s failed", op, exc_info=bug)
    return error("runtime_failed", f"internal error in {op}: {type(bug).__name__}: {bug}")
