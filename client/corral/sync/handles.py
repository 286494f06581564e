"""Guests, containers and processes without `await`: each stands for the asynchronous one of the same name, which documents it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corral.bundle.bundles import Bundles as AsyncBundles
from corral.bundle.pack import Packed
from corral.bundle.push import OnProgress, Pushed
from corral.completed import Completed
from corral.container import Container as AsyncContainer
from corral.core.pull import Piece
from corral.guest import Guest as AsyncGuest
from corral.output import ByteStream as AsyncByteStream
from corral.output import Output as AsyncOutput
from corral.process import Process as AsyncProcess
from corral.stdin import Stdin as AsyncStdin
from corral.sync.portal import Portal, PortalIterator
from corral_schemas.bundles import InspectBundleReply, ListBundlesReply, RemovedBundlesReply
from corral_schemas.commands import SIGTERM, KillReply, StartReply
from corral_schemas.containers import ContainerProcessState, ContainerSpec, ContainerState, ContainerStats
from corral_schemas.cursor import Place
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.limits import STOP_GRACE_S
from corral_schemas.queries import ListReply
from corral_schemas.stdio import StdioOptions

_PLAIN = StdioOptions()


class Guest:
    """See corral.guest.Guest."""

    def __init__(self, portal: Portal, guest: AsyncGuest) -> None:
        self._portal, self._guest = portal, guest

    def __repr__(self) -> str:
        return repr(self._guest)

    @property
    def name(self) -> str:
        return self._guest.name

    def create(
        self,
        name: str | None = None,
        *,
        bundle: str | None = None,
        spec: ContainerSpec | None = None,
        stdio: StdioOptions = _PLAIN,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> "Container":
        made = self._guest.create(name, bundle=bundle, spec=spec, stdio=stdio, request_id=request_id, timeout_s=timeout_s)
        return Container(self._portal, self._portal.run(made))

    def run(
        self,
        name: str | None = None,
        *,
        bundle: str | None = None,
        spec: ContainerSpec | None = None,
        stdio: StdioOptions = _PLAIN,
        auto_delete: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> "Container":
        made = self._guest.run(
            name, bundle=bundle, spec=spec, stdio=stdio, auto_delete=auto_delete, request_id=request_id, timeout_s=timeout_s
        )
        return Container(self._portal, self._portal.run(made))

    def list(self) -> ListReply:
        return self._portal.run(self._guest.list())

    @property
    def bundles(self) -> "Bundles":
        return Bundles(self._portal, self._guest.bundles)

    def container(self, name: str, instance: str = "") -> "Container":
        return Container(self._portal, self._guest.container(name, instance))


class Bundles:
    """See corral.bundle.bundles.Bundles."""

    def __init__(self, portal: Portal, bundles: AsyncBundles) -> None:
        self._portal, self._bundles = portal, bundles

    def push(self, bundle: Packed, names: Sequence[str] = (), *, on_progress: OnProgress | None = None) -> Pushed:
        return self._portal.run(self._bundles.push(bundle, names, on_progress=on_progress))

    def list(self) -> ListBundlesReply:
        return self._portal.run(self._bundles.list())

    def inspect(self, bundle: str, *, entries_from: int = 0, entries_max: int = 0) -> InspectBundleReply:
        return self._portal.run(self._bundles.inspect(bundle, entries_from=entries_from, entries_max=entries_max))

    def remove(self, bundle: str) -> RemovedBundlesReply:
        return self._portal.run(self._bundles.remove(bundle))

    def collect(self, *, named: bool = False, idle_s: float = 3_600.0) -> RemovedBundlesReply:
        return self._portal.run(self._bundles.collect(named=named, idle_s=idle_s))


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


class Output(PortalIterator[Piece]):
    """See corral.output.Output."""

    def __init__(self, portal: Portal, output: AsyncOutput) -> None:
        super().__init__(portal, output)
        self._output = output

    @property
    def exit(self) -> Exit | None:
        return self._output.exit

    @property
    def ends(self) -> dict[str, StreamEnd]:
        return self._output.ends

    @property
    def next(self) -> dict[str, int]:
        return self._output.next


class ByteStream:
    """See corral.output.ByteStream."""

    def __init__(self, portal: Portal, stream: AsyncByteStream) -> None:
        self._portal, self._stream = portal, stream

    def __iter__(self) -> Iterator[bytes]:
        return self._portal.iterate(aiter(self._stream))

    def pieces(self, offset: int = 0, *, follow: bool = True) -> Iterator[bytes]:
        return self._portal.iterate(self._stream.pieces(offset, follow=follow))

    def lines(self, offset: int = 0, *, follow: bool = True) -> Iterator[bytes]:
        return self._portal.iterate(self._stream.lines(offset, follow=follow))

    def read(self, offset: int = 0, *, follow: bool = True) -> bytes:
        return self._portal.run(self._stream.read(offset, follow=follow))


class Stdin:
    """See corral.stdin.Stdin."""

    def __init__(self, portal: Portal, stdin: AsyncStdin) -> None:
        self._portal, self._stdin = portal, stdin

    @property
    def offset(self) -> int:
        return self._stdin.offset

    def write(self, data: bytes) -> None:
        self._portal.run(self._stdin.write(data))

    def close(self) -> None:
        self._portal.run(self._stdin.close())
