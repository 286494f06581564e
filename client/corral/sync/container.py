"""Containers and processes without `await`: each stands for the asynchronous one of the same name, which documents it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral.completed import Completed
from corral.container import Container as AsyncContainer
from corral.process import Process as AsyncProcess
from corral.sync.portal import Portal
from corral.sync.streams import ByteStream, Output, Stdin
from corral_schemas.commands import SIGTERM, KillReply, StartReply
from corral_schemas.containers import ContainerProcessState, ContainerState, ContainerStats
from corral_schemas.cursor import Place
from corral_schemas.exits import Exit
from corral_schemas.limits import STOP_GRACE_S
from corral_schemas.stdio import StdioOptions

_PLAIN = StdioOptions()


class Container:
    """See corral.container.Container."""

    def __init__(self, portal: Portal, container: AsyncContainer) -> None:
        self._portal, self._container = portal, container
        self.init: Process = Process(portal, container.init, self)

    def __repr__(self) -> str:
        return repr(self._container)

    @property
    def guest(self) -> str:
        """Return the name of its guest."""
        return self._container.guest

    @property
    def name(self) -> str:
        """Return its name."""
        return self._container.name

    @property
    def instance(self) -> str:
        """Return its instance: the id that is never used again."""
        return self._container.instance

    @property
    def place(self) -> Place | None:
        """Return the place in the guest's journal right after it was made, if this handle made it."""
        return self._container.place

    def process(self, process: str, instance: str = "") -> "Process":
        """Return a process by its id, without asking the guest."""
        return Process(self._portal, self._container.process(process, instance), self)

    def start(self) -> StartReply:
        """Start the program of a created container. Raises container_not_running if it has ended, container_still_running."""
        return self._portal.run(self._container.start())

    def exec(
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
    ) -> "Process":
        """Start one more program in it, and return when it runs."""
        started = self._container.exec(
            args,
            process=process,
            env=env,
            cwd=cwd,
            user=user,
            stdio=stdio,
            oci=oci,
            ignore_paused=ignore_paused,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return Process(self._portal, self._portal.run(started))

    def run(
        self,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "",
        user: str = "",
        stdin: bytes | None = None,
        check: bool = False,
        timeout_s: float | None = None,
    ) -> Completed:
        """Run one more program in it to its end, and return its exit and output (kept in memory)."""
        return self._portal.run(self._container.run(args, env=env, cwd=cwd, user=user, stdin=stdin, check=check, timeout_s=timeout_s))

    def copy_in(self, source: str | Path, path: str) -> str:
        """Copy a file of this machine into it, with mode and time, whole or not at all; return its path there."""
        return self._portal.run(self._container.copy_in(source, path))

    def copy_out(self, path: str, destination: str | Path) -> Path:
        """Copy one of its files to this machine, with mode and time; return where it is."""
        return self._portal.run(self._container.copy_out(path, destination))

    def kill(self, signal: int = SIGTERM, all: bool = False) -> KillReply:
        """Send a signal to init, or with `all` to each of its processes; 0 sends nothing and asks whether init lives."""
        return self._portal.run(self._container.kill(signal, all))

    def stop(self, grace_s: float = STOP_GRACE_S, signal: int = SIGTERM) -> Exit:
        """Send the signal, then SIGKILL after `grace_s` seconds; return init's exit."""
        return self._portal.run(self._container.stop(grace_s, signal))

    def pause(self) -> None:
        """Freeze all its processes. Raises container_invalid_state, container_not_running."""
        self._portal.run(self._container.pause())

    def resume(self) -> None:
        """Let paused processes continue. Raises container_invalid_state if it is not paused."""
        self._portal.run(self._container.resume())

    def state(self) -> ContainerState:
        """Return its state, from the guest's journal."""
        return self._portal.run(self._container.state())

    def ps(self, all: bool = False) -> list[ContainerProcessState]:
        """Return its processes, as the kernel shows them; with `all` also those that have exited."""
        return self._portal.run(self._container.ps(all))

    def stats(self) -> ContainerStats:
        """Return what it has used: processor time, memory, processes, output."""
        return self._portal.run(self._container.stats())

    def update(self, resources: dict[str, Any]) -> None:
        """Change its resources (OCI `linux.resources`). Raises container_not_running, runtime_failed."""
        self._portal.run(self._container.update(resources))

    def delete(self, force: bool = False) -> None:
        """Delete it; with `force` kill its processes first. Its exits and output stay readable for their retention time."""
        self._portal.run(self._container.delete(force))

    def wait(self, timeout_s: float | None = None) -> Exit:
        """Return init's exit (see `Process.wait`)."""
        return self._portal.run(self._container.wait(timeout_s))


class Process:
    """See corral.process.Process."""

    def __init__(self, portal: Portal, process: AsyncProcess, container: Container | None = None) -> None:
        self._portal, self._process, self._container = portal, process, container

    def __repr__(self) -> str:
        return repr(self._process)

    @property
    def container(self) -> Container:
        """Return its container."""
        if self._container is None:
            self._container = Container(self._portal, self._process.container)
        return self._container

    @property
    def process(self) -> str:
        """Return its id in the container."""
        return self._process.process

    @property
    def instance(self) -> str:
        """Return its instance: the id that is never used again."""
        return self._process.instance

    @property
    def pid(self) -> int:
        """Return its pid in the guest, 0 if it is not known."""
        return self._process.pid

    def wait(self, timeout_s: float | None = None) -> Exit:
        """Return its exit: a repeatable read, before or after it, over reconnects and restarts."""
        return self._portal.run(self._process.wait(timeout_s))

    def kill(self, signal: int = SIGTERM) -> KillReply:
        """Send it a signal; 0 sends nothing and asks whether it lives."""
        return self._portal.run(self._process.kill(signal))

    def end(self) -> None:
        """Kill an exec, if it lives, and free its id. Does nothing if it is gone."""
        self._portal.run(self._process.end())

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, in characters. Raises not_a_tty, process_not_found."""
        self._portal.run(self._process.resize(rows, columns))

    def delete(self) -> None:
        """Free the id of an exec that has exited. Raises container_not_stopped while it runs, bad_request for init."""
        self._portal.run(self._process.delete())

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
    ) -> "Output":
        """Return its output as Chunks and Gaps, from the given offsets (bytes since each stream began; None: that stream is left out)."""
        pieces = self._process.output(
            stdout=stdout, stderr=stderr, follow=follow, tail_lines=tail_lines, since_ns=since_ns, verify=verify, consumer=consumer
        )
        return Output(self._portal, pieces)

    @property
    def stdout(self) -> "ByteStream":
        """Return the bytes of its stdout, from the first to the end; each use reads anew."""
        return ByteStream(self._portal, self._process.stdout)

    @property
    def stderr(self) -> "ByteStream":
        """Return the bytes of its stderr, from the first to the end; each use reads anew."""
        return ByteStream(self._portal, self._process.stderr)

    @property
    def combined(self) -> "ByteStream":
        """Return the bytes of both streams in the order in which they were written, as far as the shim could see it."""
        return ByteStream(self._portal, self._process.combined)

    @property
    def stdin(self) -> "Stdin":
        """Return its stdin. It must have been asked for (`StdioOptions(stdin=True)`)."""
        return Stdin(self._portal, self._process.stdin)
