"""A process in the foreground: its output here, our input and signals there, until it ends or we detach."""

import asyncio
import contextlib
import errno
import signal
import sys
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from corral.cli.foreground.pumps import DescriptorReader, DescriptorWriter
from corral.cli.foreground.signals import SignalInbox
from corral.cli.text.failures import CORRALS_OWN, Failed, say
from corral.cli.text.terminal import DetachKeys, raw_mode, size_of
from corral_schemas.errors import CorralError, NotFoundError, StateError
from corral_schemas.exits import Exit, describe, shell_status
from corral_schemas.stdio import Gap

if TYPE_CHECKING:
    from corral.process import Process

STDIN, STDOUT, STDERR = 0, 1, 2
BROKEN_PIPE_GRACE_S = 1.0
HANG_UP_GRACE_S = 1.0


@dataclass(frozen=True)
class ForegroundOptions:
    """How a process is attached to."""

    path: str
    """GUEST/NAME or GUEST/NAME/EXEC, for what is said of it."""
    tty: bool
    stdin: bool
    detach_keys: bytes
    owned: bool = True
    """We started it: it ends when the reader of its output goes away, as at the end of a broken pipe. Otherwise we just leave."""
    begin: Mapping[str, int] | None = None
    """Stream → offset to show from, for a process joined later; None: everything, of a process that we have made."""


class Foreground:
    """One attachment to one process. Made and used in one event loop."""

    def __init__(self, process: "Process", manner: ForegroundOptions, inbox: SignalInbox) -> None:
        self._process = process
        self._manner = manner
        self._inbox = inbox
        self._reached = dict(manner.begin or {})  # stream -> offset up to which it was written out here
        self._moved = asyncio.Event()  # set whenever _reached grew
        self._detached = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        """The status to end with: the process's, or 0 after detaching."""
        manner = self._manner
        terminal = raw_mode(STDIN) if manner.tty and manner.stdin and sys.stdin.isatty() else contextlib.nullcontext()
        try:
            with terminal:
                end = await self._until_over()
        except CorralError as why:
            raise Failed(str(why), status=CORRALS_OWN, hint=f"it may go on in its guest: corral attach {manner.path}") from why
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if end is None:
            say(f"detached from {manner.path}, which goes on", hint=f"corral attach {manner.path}")
            return 0
        return status_of(end, manner.path)

    async def _until_over(self) -> Exit | None:
        """The exit, once all output that belongs before it is written; None after detaching."""
        over: asyncio.Task[Exit] = asyncio.create_task(self._process.wait())
        showing = asyncio.create_task(self._show(over))
        left = asyncio.create_task(self._detached.wait())
        self._tasks |= {over, showing, left, asyncio.create_task(self._pass_signals_on())}
        if self._manner.stdin:
            self._tasks.add(asyncio.create_task(self._feed()))
        if self._manner.tty:
            self._tasks.add(asyncio.create_task(self._follow_size()))
        await asyncio.wait({over, showing, left}, return_when=asyncio.FIRST_COMPLETED)
        while not left.done():
            if showing.done():
                showing.result()
                await asyncio.wait({over, left}, return_when=asyncio.FIRST_COMPLETED)
                if over.done():
                    return over.result()
            elif over.done() and self._has_all(over.result()):
                return over.result()
            else:
                await self._something(over, showing, left)
        return None

    async def _something(self, over: "asyncio.Task[Exit]", showing: "asyncio.Task[None]", left: "asyncio.Task[bool]") -> None:
        """Waits until output was written, or one of the tasks that is not done yet is."""
        self._moved.clear()
        moved = asyncio.create_task(self._moved.wait())
        try:
            await asyncio.wait({t for t in (over, showing, left) if not t.done()} | {moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()

    def _has_all(self, end: Exit) -> bool:
        """Whether everything is written that the process had written by its end. What a descendant still holds open is not waited for."""
        return all(self._reached.get(name, 0) >= stream.total for name, stream in end.streams.items())

    async def _show(self, over: "asyncio.Task[Exit]") -> None:
        writer = DescriptorWriter()
        try:
            await self._copy_out(writer)
        except BrokenPipeError:
            if not self._manner.owned:
                raise
            await self._end_by_broken_pipe(over)
        except OSError as why:
            if why.errno != errno.EIO:
                raise
            self._detached.set()  # the terminal is gone, and nobody there to see more
        finally:
            writer.close()

    async def _copy_out(self, writer: DescriptorWriter) -> None:
        stderr_offset = None if self._manner.tty else self._reached.get("stderr", 0)
        async with contextlib.aclosing(self._process.output(stdout=self._reached.get("stdout", 0), stderr=stderr_offset)) as output:
            async for item in output:
                if isinstance(item, Gap):
                    self._say(str(item))
                    self._reached[item.stream] = item.end
                else:
                    await writer.write(STDERR if item.stream == "stderr" else STDOUT, item.data)
                    self._reached[item.stream] = item.offset + len(item.data)
                self._moved.set()

    async def _end_by_broken_pipe(self, over: "asyncio.Task[Exit]") -> None:
        """SIGPIPE, as for a process that writes into a pipe without a reader; SIGKILL for one that does not care (an init, mostly)."""
        await self._unless_gone(self._process.kill(signal.SIGPIPE))
        await asyncio.wait({over}, timeout=BROKEN_PIPE_GRACE_S)
        if not over.done():
            await self._unless_gone(self._process.kill(signal.SIGKILL))

    async def _feed(self) -> None:
        """Our stdin to the process, to its end or the detach keys."""
        reader = DescriptorReader(STDIN)
        from_terminal = self._manner.tty and sys.stdin.isatty()  # asked now: one that was hung up says no
        keys = DetachKeys(self._manner.detach_keys if from_terminal else b"")
        while data := await reader.read():
            typed = keys.feed(data)
            if typed and not await self._unless_gone(self._process.stdin.write(typed)):
                return
            if keys.detached:
                self._detached.set()
                return
        if not from_terminal:
            await self._unless_gone(self._process.stdin.close())
            return
        # A terminal has no end: it was hung up, and the process stays for another one. SIGHUP, where it is not ignored, is passed on first.
        await asyncio.sleep(HANG_UP_GRACE_S)
        self._detached.set()

    async def _follow_size(self) -> None:
        """Tells the process each new size. The first was given when it was made; a process joined later is told now."""
        if self._manner.begin is not None and (size := size_of(STDIN, STDOUT, STDERR)):
            # Another size first, so that a full-screen program draws itself anew for us even if its size was the same.
            await self._unless_gone(self._process.resize(size.rows + 1, size.columns))
            await self._unless_gone(self._process.resize(size.rows, size.columns))
        while True:
            await self._inbox.resized.wait()
            self._inbox.resized.clear()
            if size := size_of(STDIN, STDOUT, STDERR):
                await self._unless_gone(self._process.resize(size.rows, size.columns))

    async def _pass_signals_on(self) -> None:
        while True:
            number, insists = await self._inbox.next()
            if insists:
                self._detached.set()
                return
            sending = asyncio.create_task(self._unless_gone(self._process.kill(number)))
            self._tasks.add(sending)
            if number == signal.SIGHUP:
                await sending
                self._detached.set()

    async def _unless_gone(self, act: Awaitable[object]) -> bool:
        """False where the process is not there (any more) to take it, or it failed otherwise, which is said."""
        try:
            await act
        except (NotFoundError, StateError):
            return False
        except CorralError as why:
            self._say(str(why))
            return False
        return True

    def _say(self, text: str) -> None:
        say(text)
        if self._manner.tty and sys.stderr.isatty():
            click.echo("\r", nl=False, err=True)


def status_of(end: Exit, path: str) -> int:
    """The status a shell would show. What a code cannot tell (lost, a failed start, out of memory) is said on stderr."""
    if end.type in ("lost", "start_failed") or end.oom_seen:
        say(f"{path}: {describe(end)}")
    return shell_status(end)
