"""A program run to its end, with all it wrote: what subprocess.run is for programs on this machine."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from corral.guest import Guest
from corral.output import bytes_of
from corral.process import Process
from corral.timeouts import checked_s
from corral.words import generated_name
from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import CorralError, error
from corral_schemas.exits import Exit, describe, shell_status
from corral_schemas.stdio import StdioOptions


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended, and what it wrote until then."""

    args: tuple[str, ...]
    """The program and its arguments."""
    exit: Exit
    """How it ended: exited, signalled, start_failed or lost."""
    stdout: bytes
    """All it wrote there."""
    stderr: bytes
    """All it wrote there."""

    @property
    def returncode(self) -> int:
        """Return the exit status a shell would show: 128 + signal for a killed one, 125 if the exit is unknown (`corral.shell_status`)."""
        return shell_status(self.exit)

    def check(self) -> "Completed":
        """Return itself if the program ended with 0. Raises ProcessFailedError."""
        if self.returncode:
            raise ProcessFailedError(self)
        return self


class ProcessFailedError(Exception):
    """A program did not end with 0; `completed` has what it wrote."""

    def __init__(self, completed: Completed) -> None:
        last = completed.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        super().__init__(f"{' '.join(completed.args)}: {describe(completed.exit)}{f': {last}' if last else ''}")
        self.completed = completed


async def run_to_end(guest: Guest, spec: ContainerSpec, stdin: bytes | None, timeout_s: float | None) -> Completed:
    """In a container of its own, which is gone afterwards, however this ends."""
    checked_s(timeout_s)
    name = generated_name()
    try:
        container = await guest.run(name, spec=spec, stdio=StdioOptions(stdin=stdin is not None), auto_delete=True)
    except asyncio.CancelledError:  # it may be on its way
        await asyncio.shield(guest.container(name).clear())
        raise
    try:
        return await complete(container.init, spec.args, stdin, timeout_s)
    except BaseException:
        await asyncio.shield(container.clear())
        raise


async def complete(process: Process, args: Sequence[str], stdin: bytes | None, timeout_s: float | None) -> Completed:
    """Feed it, read it and wait for it. Raises wait_timeout after `timeout_s` seconds (it goes on), and what reading raises."""
    written: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    async def read() -> Exit:
        async with aclosing(process.output()) as output:
            async for piece in output:
                written[piece.stream].append(bytes_of(piece))
        return output.exit or await process.wait()

    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            if stdin is not None:
                tasks.create_task(_feed(process, stdin))
    except TimeoutError as why:
        raise error("wait_timeout", f"{process!r} has not ended after {timeout_s} s", timeout_s=timeout_s) from why
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    return Completed(tuple(args), reading.result(), b"".join(written["stdout"]), b"".join(written["stderr"]))


async def _feed(process: Process, data: bytes) -> None:
    """What it does not want to read it need not: that is no failure."""
    try:
        await process.stdin.write(data)
        await process.stdin.close()
    except CorralError as why:
        if why.code not in ("stdin_closed", "process_not_found", "container_not_found"):
            raise
