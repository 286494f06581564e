"""The runtime interface under its own names: Runtime, Container and Process of one guest, synchronous, for programs written against it.

    with corral.Client() as client:
        container = Runtime(client, "vm-1").create_container("web", "/srv/web")
        container.start()
        relay = container.pipe_relay()
        relay.start(stdout=sys.stdout.buffer)
        print(container.wait())

Everything here goes through a `corral.Client`, which stays the caller's. Methods raise CorralError with a code of
`corral_schemas.errors.TABLE`; an HRESULT and an errno-like name are on each error.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from corral.sync.client import Client
from corral.sync.container import Container as ContainerHandle
from corral.sync.container import Process as ProcessHandle
from corral_schemas.commands import SIGTERM
from corral_schemas.containers import ContainerProcessState, ContainerState, OciProcess, ProcessInfo
from corral_schemas.errors import NotFoundError, StateError, error
from corral_schemas.exits import Exit
from corral_schemas.stdio import StdioOptions

_PLAIN = StdioOptions()
_READ_BYTES = 65_536


class Runtime:
    """The container runtime of one guest."""

    def __init__(self, client: Client, guest: str) -> None:
        self._guest = client.guest(guest)

    def create_container(self, id: str, bundle: str, stdio: StdioOptions = _PLAIN) -> "Container":
        """Makes a container from an OCI bundle (a directory in the guest); its init waits for `start`.

        Raises container_already_exists, invalid_container_id, bundle_invalid, command_not_found, command_not_executable, runtime_failed.
        """
        return Container(self._guest.create(id, bundle=bundle, stdio=stdio))

    def list_container_states(self) -> list[ContainerState]:
        """The state of every container of the guest, all at one moment."""
        return self._guest.list().containers


class Process:
    """One process: a container's init, or an exec."""

    def __init__(self, process: ProcessHandle) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its pid in the guest; 0 once it has ended."""
        return self._info().pid

    def wait(self, timeout_s: float | None = None) -> Exit:
        """Its exit, as often as it is asked for. Raises wait_timeout after `timeout_s` seconds; the process goes on then."""
        return self._process.wait(timeout_s)

    def delete(self) -> None:
        """Frees the id of an exec that has exited. Raises container_not_stopped while it runs, bad_request for init."""
        self._process.delete()

    def tty(self) -> "TtyRelay | None":
        """A relay for its terminal; None where it has none."""
        return TtyRelay(self._process) if self._info().tty else None

    def pipe_relay(self) -> "PipeRelay | None":
        """A relay for its pipes; None where it has a terminal."""
        return None if self._info().tty else PipeRelay(self._process)

    def _info(self) -> ProcessInfo:
        process = self._process
        found = [one for one in process.container.state().processes if one.process == process.process]
        pinned = [one for one in found if process.instance in ("", one.instance)]
        if not pinned:
            raise error("process_not_found", f"no process {process.container.name}/{process.process}", process=process.process)
        return pinned[-1]


class Container(Process):
    """A container; as a process it is its init, except that `delete` deletes all of it."""

    def __init__(self, container: ContainerHandle) -> None:
        super().__init__(container.init)
        self._container = container

    @property
    def id(self) -> str:
        return self._container.name

    def exists(self) -> bool:
        """Whether the guest has it (this very instance, where it was made here)."""
        try:
            self._container.state()
        except NotFoundError:
            return False
        return True

    def start(self) -> None:
        """Lets its program run. Raises container_still_running, container_not_running."""
        self._container.start()

    def exec_process(self, process: OciProcess, stdio: StdioOptions = _PLAIN, id: str | None = None) -> Process:
        """Runs one more program in it. id: unique in the container; None: one is made up.

        Raises command_not_found, command_not_executable, process_already_exists, container_invalid_state, container_not_running.
        """
        return Process(
            self._container.exec(
                process.args, process=id, env=process.env, cwd=process.cwd, user=process.user, oci=process.oci, stdio=stdio
            )
        )

    def kill(self, signal: int = SIGTERM) -> None:
        """Sends init a signal. Raises container_not_running once it has stopped."""
        self._container.kill(signal)

    def pause(self) -> None:
        """Freezes all its processes. Raises container_invalid_state, container_not_running."""
        self._container.pause()

    def resume(self) -> None:
        """Lets them go on. Raises container_invalid_state, container_not_running."""
        self._container.resume()

    def get_state(self) -> ContainerState:
        """Its state: oci_version, id, pid, bundle_path, rootfs_path, status, created and more."""
        return self._container.state()

    def get_running_processes(self) -> list[ContainerProcessState]:
        """What runs in it now, whoever started it."""
        return self._container.ps()

    def get_all_processes(self) -> list[ContainerProcessState]:
        """Also processes the runtime started that have exited, and zombies."""
        return self._container.ps(all=True)

    def get_init_process(self) -> Process:
        """Its first process."""
        return Process(self._container.init)

    def update(self, resources: dict[str, Any]) -> None:
        """Changes its resources (OCI `linux.resources`). Raises container_not_running, bad_request."""
        self._container.update(resources)

    def delete(self) -> None:
        """Deletes a created or stopped container. Raises container_not_stopped."""
        self._container.delete()


class _Relay:
    """Copies between a process's streams and local files, one thread per stream."""

    def __init__(self, process: ProcessHandle) -> None:
        self._process = process
        self._outputs: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def wait(self, timeout_s: float | None = None) -> bool:
        """Returns once all output was written (False: not within that many seconds, for each stream).

        Raises what went wrong on the way: the OSError of a local file, or cursor_too_old where output was lost.
        """
        for thread in self._outputs:
            thread.join(timeout_s)
        if self._failures:
            raise self._failures[0]
        return not any(thread.is_alive() for thread in self._outputs)

    def _copy_input(self, source: BinaryIO) -> None:
        # a daemon, never waited for: it may hang in a read of a local file that nobody writes to
        threading.Thread(target=self._run, args=(self._feed, source), name="corral-relay-in", daemon=True).start()

    def _copy_output(self, source: Iterable[bytes], sink: BinaryIO) -> None:
        thread = threading.Thread(target=self._run, args=(_drain, source, sink), name="corral-relay-out", daemon=True)
        self._outputs.append(thread)
        thread.start()

    def _run(self, work: Callable[..., None], *files: Any) -> None:
        try:
            work(*files)
        except Exception as failure:  # noqa: BLE001 - told by wait
            self._failures.append(failure)

    def _feed(self, source: BinaryIO) -> None:
        read = getattr(source, "read1", source.read)
        with contextlib.suppress(StateError):  # the process reads no more: what it did read it got
            while data := read(_READ_BYTES):
                self._process.stdin.write(data)
            self._process.stdin.close()


class TtyRelay(_Relay):
    """Relays a terminal: one stream each way, and its size."""

    def start(self, stdin: BinaryIO | None = None, stdout: BinaryIO | None = None) -> None:
        """Begins to copy, output from its first byte on; returns at once. The end of `stdin` is passed on as end of file."""
        if stdout is not None:
            self._copy_output(self._process.stdout, stdout)
        if stdin is not None:
            self._copy_input(stdin)

    def resize_console(self, rows: int, columns: int) -> None:
        """Sets the terminal's size in characters. Raises process_not_found once the process has ended."""
        self._process.resize(rows, columns)


class PipeRelay(_Relay):
    """Relays the three pipes of a process."""

    def start(self, stdin: BinaryIO | None = None, stdout: BinaryIO | None = None, stderr: BinaryIO | None = None) -> None:
        """Begins to copy, output from its first byte on; returns at once. A stream without a file is not relayed."""
        if stdout is not None:
            self._copy_output(self._process.stdout, stdout)
        if stderr is not None:
            self._copy_output(self._process.stderr, stderr)
        if stdin is not None:
            self._copy_input(stdin)


def _drain(source: Iterable[bytes], sink: BinaryIO) -> None:
    for data in source:
        sink.write(data)
        sink.flush()
