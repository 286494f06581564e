"""A process of a container: wait for it, signal it, read its output, feed its stdin."""

import asyncio
import contextlib
import signal
from functools import cached_property
from typing import TYPE_CHECKING

from corral.asking_on import ask_on
from corral.connection import Connection
from corral.output import ByteStream, Output
from corral.stdin import Stdin
from corral.timeouts import checked_s
from corral_schemas.commands import DeleteArgs, KillArgs, KillReply
from corral_schemas.errors import DeadlineError, NotFoundError, StateError, error
from corral_schemas.exits import Exit
from corral_schemas.limits import LONG_POLL_S_MAX
from corral_schemas.names import INIT
from corral_schemas.queries import WaitArgs, WaitReply
from corral_schemas.stdio import Done, ProcessTarget, ResizeArgs

if TYPE_CHECKING:
    from corral.container import Container


class Process:
    """`init`, or an exec. `instance` pins the very process; while it is empty the newest of that name is meant."""

    def __init__(
        self,
        connection: Connection,
        container: "Container",
        process: str = INIT,
        instance: str = "",
        pid: int = 0,
        *,
        fresh: bool = False,
        exit: Exit | None = None,
    ) -> None:
        self._connection = connection
        self._exit = exit  # that of a short one came with the answer to its start
        self._fresh = fresh
        self.container = container
        self.process = process
        self.instance: str = instance
        self._heard_of = False  # its guest has said that it is there
        self._container_instance = ""  # learned with it, where the container's handle names the newest
        self.pid = pid

    def __repr__(self) -> str:
        return f"<Process {self.container.guest}/{self.container.name}/{self.process}>"

    @property
    def target(self) -> ProcessTarget:
        """Return how commands name it."""
        instance = self.container.instance or self._container_instance
        return ProcessTarget(container=self.container.name, instance=instance, process=self.process, process_instance=self.instance)

    def pin(self, instance: str, process_instance: str) -> None:
        """Keep to this very process (of that container instance), whatever bears its name later."""
        self.instance = self.instance or process_instance
        if self.instance == process_instance:
            self._container_instance = self._container_instance or instance

    @property
    def patience_s(self) -> float:
        """Return how many seconds its guest may be out of reach in the middle of something: 0 before anything was heard of it."""
        return self._connection.timeout_s if self._heard_of or self.instance or self.container.instance else 0.0

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Return its exit: a repeatable read, before or after it, over reconnects and restarts.

        timeout_s: seconds to wait at most; None: as long as it takes. Raises wait_timeout (the process continues), process_not_found,
        container_not_found, guest_unreachable. Cancelling it changes nothing in the guest.
        """
        if self._exit is not None:
            return self._exit
        timeout_s = checked_s(timeout_s)
        if timeout_s is not None:
            return await self._wait_for(timeout_s)
        if pinned := self.instance or (self.container.instance if self.process == INIT else ""):
            return await self._connection.waits.join(self.container.guest, pinned, self._wait_on)
        return await self._wait_on()

    async def _wait_for(self, timeout_s: float) -> Exit:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while True:
            poll_s = min(LONG_POLL_S_MAX, max(0.0, until_s - loop.time()))
            allowance_s, args = min(1.0, self._connection.timeout_s), self._wait_args(poll_s)
            try:
                return self._told(
                    await self._connection.ask(
                        self.container.guest, "wait", args, WaitReply, timeout_s=poll_s + allowance_s, patience_s=self.patience_s
                    )
                )
            except DeadlineError as why:
                self._heard(why)
                if loop.time() >= until_s:
                    raise error("wait_timeout", f"{self!r} has not ended after {timeout_s} s", timeout_s=timeout_s) from why

    async def _wait_on(self) -> Exit:
        """Ask for as long as it takes."""
        while True:
            args = self._wait_args(LONG_POLL_S_MAX)
            try:
                return self._told(await ask_on(self._connection, self.container.guest, "wait", args, WaitReply, patience_s=self.patience_s))
            except DeadlineError as why:
                self._heard(why)
                if why.code != "wait_timeout":
                    raise

    def _told(self, reply: WaitReply) -> Exit:
        self.instance = self.instance or reply.process_instance
        return reply.exit

    def _heard(self, why: DeadlineError) -> None:
        """Note that its guest is there after a poll ended; raise it where the wait was given up."""
        if why.code == "cancelled":
            raise why
        self._heard_of = self._heard_of or why.code == "wait_timeout"

    def _wait_args(self, poll_s: float) -> WaitArgs:
        target = self.target
        return WaitArgs(
            container=target.container,
            instance=target.instance,
            process=target.process,
            process_instance=target.process_instance,
            timeout_ms=int(poll_s * 1000),
        )

    async def kill(self, signal: int = 15) -> KillReply:
        """Send it a signal; 0 sends nothing and asks whether it lives.

        Raises container_not_running or process_not_found, with details.outcome, if it has gone already.
        """
        target = self.target
        args = KillArgs(
            container=target.container,
            instance=target.instance,
            process=target.process,
            process_instance=target.process_instance,
            signal=signal,
        )
        return await self._connection.ask(self.container.guest, "kill", args, KillReply)

    async def end(self) -> None:
        """Kill an exec, if it lives, and free its id. Does nothing if it is gone."""
        with contextlib.suppress(NotFoundError, StateError):
            await self.kill(signal.SIGKILL)
        with contextlib.suppress(NotFoundError):
            await self.wait()
            await self.delete()

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, in characters. Raises not_a_tty, process_not_found."""
        target = self.target
        args = ResizeArgs(
            container=target.container,
            instance=target.instance,
            process=target.process,
            process_instance=target.process_instance,
            rows=rows,
            columns=columns,
        )
        await self._connection.ask(self.container.guest, "resize", args, Done)

    async def delete(self) -> None:
        """Free the id of an exec that has exited. Raises container_not_stopped while it runs, bad_request for init."""
        if self.process == INIT:
            raise error("bad_request", "init goes with its container: delete the container")
        args = DeleteArgs(container=self.container.name, instance=self.container.instance, process=self.process)
        await self._connection.ask(self.container.guest, "delete", args, Done)

    def output(
        self,
        *,
        stdout: int | None = 0,
        stderr: int | None = 0,
        follow: bool = True,
        tail_lines: int | None = None,
        since_ns: int | None = None,
        verify: bool = True,
        consumer: str = "",
    ) -> Output:
        """Return its output as Chunks and Gaps, from the given offsets (bytes since each stream began; None: that stream is left out).

        follow: continue to the end of the streams and the exit; otherwise stop at what there is now. tail_lines, since_ns: begin that
        many lines before the end, or with the output of that time (nanoseconds since the epoch of Unix), instead of the offsets. verify:
        check the running CRC-32. consumer: the name of the one reader that a `block` process waits for; everything taken is acknowledged.
        """
        return Output(
            self._connection,
            self,
            stdout=stdout,
            stderr=stderr,
            follow=follow,
            tail_lines=tail_lines,
            since_ns=since_ns,
            verify=verify,
            consumer=consumer,
        )

    @property
    def stdout(self) -> ByteStream:
        """Return the bytes of its stdout, from the first to the end; each use reads anew."""
        return ByteStream(self, ("stdout",))

    @property
    def stderr(self) -> ByteStream:
        """Return the bytes of its stderr, from the first to the end; each use reads anew."""
        return ByteStream(self, ("stderr",))

    @property
    def combined(self) -> ByteStream:
        """Return the bytes of both streams in the order in which they were written, as far as the shim could see it."""
        return ByteStream(self, ("stdout", "stderr"))

    @cached_property
    def stdin(self) -> Stdin:
        """Return its stdin. It must have been asked for (`StdioOptions(stdin=True)`)."""
        return Stdin(self._connection, self, fresh=self._fresh)
