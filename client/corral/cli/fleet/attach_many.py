"""Processes in the foreground in many guests at once: their output here, line by line, and our signals to all of them."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from corral.cli.fleet.sweep import NAMED_MAX, NotOkError, SweepOptions, sweep, tag_of
from corral.cli.fleet.tagged import LineStreams, TaggedOutput
from corral.cli.foreground.signals import INSISTING, SignalInbox
from corral.cli.text.failures import INTERRUPTED, say
from corral.cli.text.lines import Line
from corral.cli.text.output import json_line
from corral.cli.text.records import end_record, line_record
from corral.cli.text.targets import Target
from corral_schemas.errors import CorralError, NotFoundError, StateError
from corral_schemas.exits import Exit, describe, shell_status
from corral_schemas.stdio import Gap

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice
    from corral.process import Process

Start = Callable[[Target], Awaitable["Process"]]
After = Callable[["Process"], Awaitable[None]]


async def attach_many(
    client: "AsyncClient",
    choice: "Choice",
    manner: SweepOptions,
    start: Start,
    *,
    signal_proxy: bool,
    limit_s: float | None,
    after: After | None = None,
    as_json: bool = False,
) -> int:
    """Starts one process per target and stays until all have ended. limit_s: what has not ended by then is killed and counts as timeout.
    after: what is to be done with a process that has ended. as_json: every line and every end is a JSON object.
    The status is that of `sweep`, or 130 after detaching.
    """
    with SignalInbox(passed_on=signal_proxy) as inbox:
        here = _Attached(manner, start, limit_s, after, as_json)
        sweeping = asyncio.create_task(sweep(client, choice, manner, here.act))
        passing = asyncio.create_task(here.pass_signals_on(inbox))
        try:
            await asyncio.wait({sweeping, passing}, return_when=asyncio.FIRST_COMPLETED)
            if sweeping.done():
                return sweeping.result()
            passing.result()
        except BrokenPipeError:
            await here.end_all(signal.SIGKILL)  # as a process ends that writes into a pipe without a reader
            raise
        finally:
            for task in (sweeping, passing):
                task.cancel()
            await asyncio.gather(sweeping, passing, return_exceptions=True)
        here.say_what_goes_on()
        return INTERRUPTED


class _Attached:
    def __init__(self, manner: SweepOptions, start: Start, limit_s: float | None, after: After | None, as_json: bool) -> None:
        self._manner, self._start, self._limit_s, self._after, self._as_json = manner, start, limit_s, after, as_json
        self._running: dict[str, Process] = {}  # target -> its process, from its start to its end as far as we have heard
        self._starting: dict[str, asyncio.Future[Process]] = {}  # target -> its process to be
        self._ending = 0  # the signal after which nothing more is started; 0: none came

    async def act(self, target: Target, output: TaggedOutput) -> None:
        if self._ending:
            raise NotOkError("", "skipped")
        process = self._running[target.text] = await self._started(target)
        try:
            if self._ending:
                await _unless_gone(process, self._ending)
            end = await self._until_over(process, self._streams(process, target, output), output, target.text)
        except TimeoutError:
            await _unless_gone(process, signal.SIGKILL)
            del self._running[target.text]
            raise NotOkError(f"not done after {self._limit_s} s, and killed", "timeout") from None
        del self._running[target.text]
        if self._as_json:
            await output.plain(json_line(end_record(process, end)))
        if self._after:
            await self._after(process)
        if shell_status(end):
            raise NotOkError(describe(end))

    def _streams(self, process: "Process", target: Target, output: TaggedOutput) -> LineStreams:
        async def tag(stream: str, lines: list[Line]) -> None:
            await output.stream(tag_of(target, self._manner), stream, lines)

        async def record(stream: str, lines: list[Line]) -> None:
            for line in lines:
                await output.plain(json_line(line_record(process, stream, line)))

        return LineStreams(record if self._as_json else tag)

    async def _started(self, target: Target) -> "Process":
        """Given up by us, the start is still under way, and remembered: what comes of it may have to be ended."""
        starting = asyncio.ensure_future(self._start(target))
        starting.add_done_callback(lambda _: self._starting.pop(target.text, None))
        self._starting[target.text] = starting
        return await asyncio.shield(starting)

    async def _until_over(self, process: "Process", streams: LineStreams, output: TaggedOutput, text: str) -> Exit:
        """Its exit, once all is shown that it had written by then; what a descendant still holds open is not waited for."""
        reached: dict[str, int] = {}
        moved = asyncio.Event()

        async def show() -> None:
            async with contextlib.aclosing(process.output()) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Gap):
                        await output.say(f"{text}: {piece}")
                    else:
                        await streams.chunk(piece)
                    reached[piece.stream] = piece.end if isinstance(piece, Gap) else piece.offset + len(piece.data)
                    moved.set()

        over, showing = asyncio.create_task(process.wait()), asyncio.create_task(show())
        showing.add_done_callback(lambda _: moved.set())
        try:
            async with asyncio.timeout(self._limit_s):
                while not over.done():
                    await asyncio.wait({over, showing}, return_when=asyncio.FIRST_COMPLETED)
                    if showing.done():
                        showing.result()
                        await over
                end = over.result()
                while not showing.done() and not all(reached.get(name, 0) >= stream.total for name, stream in end.streams.items()):
                    moved.clear()
                    await moved.wait()
            if showing.done():
                showing.result()
            return end
        finally:
            for task in (over, showing):
                task.cancel()
            await asyncio.gather(over, showing, return_exceptions=True)
            await streams.rest()

    async def pass_signals_on(self, inbox: SignalInbox) -> None:
        """To every process that runs. Returns when somebody insists."""
        sending: set[asyncio.Task[None]] = set()
        while True:
            number, insists = await inbox.next()
            if insists:
                return
            if number in (*INSISTING, signal.SIGHUP):
                self._ending = number
            for process in self._running.values():
                task = asyncio.create_task(_unless_gone(process, number))
                sending.add(task)
                task.add_done_callback(sending.discard)

    async def end_all(self, number: int) -> None:
        """Also those that are only being started."""
        begun = await asyncio.gather(*list(self._starting.values()), return_exceptions=True)
        processes = [*self._running.values(), *(process for process in begun if not isinstance(process, BaseException))]
        await asyncio.gather(*(_unless_gone(process, number) for process in processes))

    def say_what_goes_on(self) -> None:
        names = sorted({*self._running, *self._starting})
        shown = ", ".join(names[:NAMED_MAX]) + (", …" if len(names) > NAMED_MAX else "")
        say(f"detached from {len(names)}, which go on: {shown}" if names else "given up", hint="corral ps" if names else "")


async def _unless_gone(process: "Process", number: int) -> None:
    try:
        await process.kill(number)
    except (NotFoundError, StateError):
        return
    except CorralError as why:
        say(f"{process.container.guest}/{process.container.name}: {why}")
