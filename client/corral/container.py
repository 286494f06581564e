"""A container in a guest."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.connection import Connection
from corral.process import Process
from corral.timeouts import checked_s
from corral.words import generated_exec
from corral_schemas.commands import (
    SIGTERM,
    ContainerTarget,
    DeleteArgs,
    ExecArgs,
    ExecReply,
    KillArgs,
    KillReply,
    StartReply,
    StopArgs,
    StopReply,
    UpdateArgs,
)
from corral_schemas.containers import ContainerProcessState, ContainerState, ContainerStats, OciProcess
from corral_schemas.cursor import Place
from corral_schemas.errors import DeadlineError, NotFoundError, RetryError
from corral_schemas.exits import Exit
from corral_schemas.limits import STOP_GRACE_S
from corral_schemas.queries import ContainerStatsReply, PsArgs, PsReply, StateReply
from corral_schemas.stdio import Done, StdioOptions

if TYPE_CHECKING:
    from corral.completed import Completed

_PLAIN = StdioOptions()


class Container:
    """A container named; `instance` pins the very one, and while it is empty the newest of that name is meant.

    Its methods raise CorralError with a code of `corral_schemas.errors.TABLE`: container_not_found, container_not_running,
    container_invalid_state, container_still_running, container_not_stopped, guest_unreachable, guest_busy, deadline_exceeded.
    """

    def __init__(
        self,
        connection: Connection,
        guest: str,
        name: str,
        instance: str = "",
        *,
        init_instance: str = "",
        init_pid: int = 0,
        place: Place | None = None,
        fresh: bool = False,
        init_exit: Exit | None = None,
    ) -> None:
        self._connection = connection
        self._init = (init_instance, init_pid, fresh, init_exit)
        self.guest = guest
        self.name = name
        self.instance = instance
        self.place = place
        """Place in the guest's journal right after it was made, where this handle made it: events after it are this container's life."""

    def __repr__(self) -> str:
        return f"<Container {self.guest}/{self.name}>"

    @cached_property
    def init(self) -> Process:
        """Return its first process."""
        instance, pid, fresh, exit = self._init
        return Process(self._connection, self, instance=instance, pid=pid, fresh=fresh, exit=exit)

    def process(self, process: str, instance: str = "") -> Process:
        """Return a process by its id, without asking the guest."""
        return Process(self._connection, self, process, instance)

    @property
    def target(self) -> ContainerTarget:
        """Return how commands name it."""
        return ContainerTarget(container=self.name, instance=self.instance)

    async def start(self) -> StartReply:
        """Start the program of a created container. Raises container_not_running if it has ended, container_still_running."""
        return await self._connection.ask(self.guest, "start", self.target, StartReply)

    async def exec(
        self,
        args: Sequence[str],
        *,
        process: str | None = None,
        env: Sequence[str] = (),
        cwd: str = "",
        user: str = "",
        stdio: StdioOptions = _PLAIN,
        oci: dict[str, Any] | None = None,
        ignore_paused: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Process:
        """Start one more program in it, and return when it runs.

        process: the exec's id, unique in the container; None: one is generated. env: NAME=VALUE. cwd, user: as in the container's spec;
        empty: its own. oci: further members of the OCI process object. ignore_paused: in a paused container, start it once it is resumed.

        Raises container_not_running, container_invalid_state, command_not_found, command_not_executable, process_already_exists.
        """
        spec = OciProcess(args=list(args), env=list(env), cwd=cwd, user=user, oci=oci or {})
        command = ExecArgs(
            container=self.name,
            instance=self.instance,
            process=process or generated_exec(),
            spec=spec,
            stdio=stdio,
            ignore_paused=ignore_paused,
        )
        reply = await self._connection.ask(self.guest, "exec", command, ExecReply, timeout_s=timeout_s, request_id=request_id)
        pinned = self if self.instance else Container(self._connection, self.guest, self.name, reply.instance)
        return Process(self._connection, pinned, reply.process, reply.process_instance, reply.pid, fresh=True, exit=reply.exit)

    async def run(
        self,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "",
        user: str = "",
        stdin: bytes | None = None,
        check: bool = False,
        timeout_s: float | None = None,
    ) -> "Completed":
        """Run one more program in it to its end, and return its exit and output (kept in memory).

        stdin: its input, then end of file; None: no input. check: raise ProcessFailedError unless it ends with 0. timeout_s: seconds
        after which it is killed and wait_timeout raised. Raises what `exec` raises. If cancelled, it kills the program.
        """
        from corral.completed import complete

        checked_s(timeout_s)
        process = await self.exec(args, env=env, cwd=cwd, user=user, stdio=StdioOptions(stdin=stdin is not None))
        try:
            completed = await complete(process, args, stdin, timeout_s)
        except BaseException:
            await asyncio.shield(process.end())
            raise
        await process.delete()
        return completed.check() if check else completed

    async def copy_in(self, source: str | Path, path: str) -> str:
        """Copy a file of this machine into it, with mode and time, whole or not at all; return its path there.

        path: of the file, or of a directory there, which gets it under its own name. Raises file_not_found, bad_request (no single file,
        a read-only place), storage_full, OSError.
        """
        from corral.copying import copy_in

        return await copy_in(self._connection, self.guest, self.target, Path(source), path)

    async def copy_out(self, path: str, destination: str | Path) -> Path:
        """Copy one of its files to this machine, with mode and time; return where it is.

        Raises file_not_found, bad_request (no single file), file_changed (it changed during every attempt), OSError.
        """
        from corral.copying import copy_out

        return await copy_out(self._connection, self.guest, self.target, path, Path(destination))

    async def kill(self, signal: int = SIGTERM, all: bool = False) -> KillReply:
        """Send a signal to init, or with `all` to each of its processes; 0 sends nothing and asks whether init lives.

        Raises container_not_running; not with `all`, whose outcome is `already_exited` if no process is left.
        """
        args = KillArgs(container=self.name, instance=self.instance, signal=signal, all=all)
        return await self._connection.ask(self.guest, "kill", args, KillReply)

    async def stop(self, grace_s: float = STOP_GRACE_S, signal: int = SIGTERM) -> Exit:
        """Send the signal, then SIGKILL after `grace_s` seconds; return init's exit."""
        args = StopArgs(container=self.name, instance=self.instance, signal=signal, grace_ms=int(checked_s(grace_s, "grace_s") * 1000))
        reply = await self._connection.ask(self.guest, "stop", args, StopReply, timeout_s=grace_s + self._connection.timeout_s)
        return reply.exit

    async def pause(self) -> None:
        """Freeze all its processes. Raises container_invalid_state, container_not_running."""
        await self._connection.ask(self.guest, "pause", self.target, Done)

    async def resume(self) -> None:
        """Let paused processes continue. Raises container_invalid_state if it is not paused."""
        await self._connection.ask(self.guest, "resume", self.target, Done)

    async def state(self) -> ContainerState:
        """Return its state, from the guest's journal."""
        return (await self._connection.ask(self.guest, "state", self.target, StateReply)).state

    async def ps(self, all: bool = False) -> list[ContainerProcessState]:
        """Return its processes, as the kernel shows them; with `all` also those that have exited."""
        args = PsArgs(container=self.name, instance=self.instance, all=all)
        return (await self._connection.ask(self.guest, "ps", args, PsReply)).processes

    async def stats(self) -> ContainerStats:
        """Return what it has used: processor time, memory, processes, output."""
        return (await self._connection.ask(self.guest, "stats", self.target, ContainerStatsReply)).stats

    async def update(self, resources: dict[str, Any]) -> None:
        """Change its resources (OCI `linux.resources`). Raises container_not_running, runtime_failed."""
        args = UpdateArgs(container=self.name, instance=self.instance, resources=resources)
        await self._connection.ask(self.guest, "update", args, Done)

    async def delete(self, force: bool = False) -> None:
        """Delete it; with `force` kill its processes first. Its exits and output stay readable for their retention time.

        Raises container_not_stopped without `force`.
        """
        args = DeleteArgs(container=self.name, instance=self.instance, force=force)
        await self._connection.ask(self.guest, "delete", args, Done)

    async def clear(self) -> None:
        """Kill and delete it, if it exists and its guest can be reached. Never raises for its absence."""
        with contextlib.suppress(NotFoundError, RetryError, DeadlineError):
            await self.delete(force=True)

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Return init's exit (see `Process.wait`)."""
        return await self.init.wait(timeout_s)
