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
        return self._container.guest

    @property
    def name(self) -> str:
        return self._container.name

    @property
    def instance(self) -> str:
        return self._container.instance

    @property
    def place(self) -> Place | None:
        return self._container.place

    def process(self, process: str, instance: str = "") -> "Process":
        return Process(self._portal, self._container.process(process, instance), self)

    def start(self) -> StartReply:
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
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> "Process":
        started = self._container.exec(
            args, process=process, env=env, cwd=cwd, user=user, stdio=stdio, oci=oci, request_id=request_id, timeout_s=timeout_s
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
        return self._portal.run(self._container.run(args, env=env, cwd=cwd, user=user, stdin=stdin, check=check, timeout_s=timeout_s))

    def copy_in(self, source: str | Path, path: str) -> str:
        return self._portal.run(self._container.copy_in(source, path))

    def copy_out(self, path: str, destination: str | Path) -> Path:
        return self._portal.run(self._container.copy_out(path, destination))

    def kill(self, signal: int = SIGTERM, all: bool = False) -> KillReply:
        return self._portal.run(self._container.kill(signal, all))

    def stop(self, grace_s: float = STOP_GRACE_S, signal: int = SIGTERM) -> Exit:
        return self._portal.run(self._container.stop(grace_s, signal))

    def pause(self) -> None:
        self._portal.run(self._container.pause())

    def resume(self) -> None:
        self._portal.run(self._container.resume())

    def state(self) -> ContainerState:
        return self._portal.run(self._container.state())

    def ps(self, all: bool = False) -> list[ContainerProcessState]:
        return self._portal.run(self._container.ps(all))

    def stats(self) -> ContainerStats:
        return self._portal.run(self._container.stats())

    def update(self, resources: dict[str, Any]) -> None:
        self._portal.run(self._container.update(resources))

    def delete(self, force: bool = False) -> None:
        self._portal.run(self._container.delete(force))

    def wait(self, timeout_s: float | None = None) -> Exit:
        return self._portal.run(self._container.wait(timeout_s))


class Process:
    """See corral.process.Process."""

    def __init__(self, portal: Portal, process: AsyncProcess, container: Container | None = None) -> None:
        self._portal, self._process, self._container = portal, process, container

    def __repr__(self) -> str:
        return repr(self._process)

    @property
    def container(self) -> Container:
        if self._container is None:
            self._container = Container(self._portal, self._process.container)
        return self._container

    @property
    def process(self) -> str:
        return self._process.process

    @property
    def instance(self) -> str:
        return self._process.instance

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout_s: float | None = None) -> Exit:
        return self._portal.run(self._process.wait(timeout_s))

    def kill(self, signal: int = SIGTERM) -> KillReply:
        return self._portal.run(self._process.kill(signal))

    def end(self) -> None:
        self._portal.run(self._process.end())

    def resize(self, rows: int, columns: int) -> None:
        self._portal.run(self._process.resize(rows, columns))

    def delete(self) -> None:
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
        pieces = self._process.output(
            stdout=stdout, stderr=stderr, follow=follow, tail_lines=tail_lines, since_ns=since_ns, verify=verify, consumer=consumer
        )
        return Output(self._portal, pieces)

    @property
    def stdout(self) -> "ByteStream":
        return ByteStream(self._portal, self._process.stdout)

    @property
    def stderr(self) -> "ByteStream":
        return ByteStream(self._portal, self._process.stderr)

    @property
    def combined(self) -> "ByteStream":
        return ByteStream(self._portal, self._process.combined)

    @property
    def stdin(self) -> "Stdin":
        return Stdin(self._portal, self._process.stdin)
