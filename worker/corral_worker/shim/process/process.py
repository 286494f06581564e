"""One process of the container: its streams, its spool, its end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time

from corral_worker.shim.base.light import Any, Path, Protocol
from corral_worker.shim.base.linux import log, runs_runtime
from corral_worker.shim.base.loop import Loop
from corral_worker.shim.base.wire import Message
from corral_worker.shim.ledger.answers import RequestError
from corral_worker.shim.process.backpressure import Backpressure
from corral_worker.shim.process.console import ConsoleSocket, set_size
from corral_worker.shim.process.input import InputStream
from corral_worker.shim.process.notices import Notifier
from corral_worker.shim.process.output import OutputStream, ReadBuffer
from corral_worker.shim.process.pipes import Pipes
from corral_worker.shim.spool.end_file import EndFile
from corral_worker.shim.spool.writer import SpoolWriter

DRAIN_BYTES_MAX = 1024 * 1024
DRAIN_GRACE_S = 0.1
# How long output stays with the kernel before it is asked to write it: a power cut costs little more than that.
WRITE_BACK_S = 1.0


class ProcessHost(Protocol):
    """What a process needs of its shim."""

    loop: Loop
    buffer: ReadBuffer

    def notify(self, message: Message) -> None:
        """Send a notice."""

    def send_droppable(self, message: Message) -> None:
        """Send what may be lost."""

    def oom_kills(self) -> int:
        """How many OOM kills the container has seen."""

    def storage_changed(self, process: str, full: bool) -> None:
        """This process's spool cannot be, or can again be written."""


class Process:
    """Made before the runtime is asked to create it, so that nothing it does can be missed."""

    def __init__(self, host: ProcessHost, parameters: Message, directory: Path, console_path: Path) -> None:
        """Take its space on disk, make its pipes. Raises OSError, KeyError, ValueError."""
        self.instance: str = parameters["instance"]
        self.loop, self.buffer = host.loop, host.buffer
        self.pid: int | None = None
        self.pid_file = Path(parameters["pid_file"])
        self.is_init = False
        self.is_started = True  # no longer so for the init of a container that is only created
        self.tty = bool(parameters["tty"])
        self.started_ns = time.time_ns()
        self.exit: dict[str, Any] | None = None
        self._host = host
        self._id: str = parameters["id"]
        self._wants_input = bool(parameters["stdin"])
        self._size = (int(parameters["rows"]), int(parameters["columns"]))
        lease_s, cap_bytes, policy = parameters["lease_ms"] / 1000, int(parameters["cap_bytes"]), parameters["policy"]
        if policy not in ("drop", "block"):
            raise ValueError(f"no policy {policy!r}")
        self.is_drained = False  # after its exit, what its pipes held is in the spool
        self.is_closed = False
        self._storage_full = False
        self._writes_back = False
        self._oom_kills_before = host.oom_kills()
        self._master: int | None = None
        self.output: dict[int, OutputStream] = {}
        self._notifier = Notifier(self, host.notify, host.send_droppable)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_meta(directory / "meta", parameters, self.started_ns)
        self._end_file = EndFile(directory)
        self.spool = SpoolWriter(directory, cap_bytes=cap_bytes, policy=policy, on_gap=self._notifier.gap)
        self._backpressure = Backpressure(host.loop, self.spool, self.output.values, lease_s, self._notifier.blocked)
        self.input = InputStream(host.loop, None)
        self._pipes: Pipes | None = None
        self._console: ConsoleSocket | None = None
        try:
            self._open_stdio(console_path)
            self.write_end()
        except OSError:
            self.discard()
            raise

    @property
    def is_gone(self) -> bool:
        """It exited."""
        return self.exit is not None

    @property
    def is_becoming(self) -> bool:
        """The runtime said that it runs, but its program has not taken the place of the runtime's in it yet."""
        return self.pid is not None and not self.is_gone and self.is_started and runs_runtime(self.pid)

    @property
    def can_be_forgotten(self) -> bool:
        """Exited, told, nothing open."""
        return self._notifier.exit_told and not any(stream.is_open for stream in self.output.values())

    def child_stdio(self) -> tuple[int, int, int]:
        """The descriptors for the runtime to run it with; -1: /dev/null."""
        return (-1, -1, -1) if self._pipes is None else self._pipes.child_side

    def spawned(self) -> None:
        """The runtime has its copies of the descriptors."""
        if self._pipes is not None:
            self._pipes.close_child_side()

    def created(self, pid: int) -> None:
        """It lives (or already ended): the runtime said so."""
        self.pid = pid
        if self._console is not None:
            self._console.receive()
            self._console.close()

    def announced(self) -> None:
        """Its create or exec was answered: from now on the worker may hear of it."""
        self._notifier.begin()

    def set_started(self, time_ns: int) -> None:
        """A created container's init begins only now."""
        self.is_started = True
        self.started_ns = time_ns
        if self.exit is not None:
            self.exit["started_ns"] = time_ns
            self.write_end()

    def hold_exit(self, held: bool) -> None:
        """While its start is being answered its exit waits, since that comes after."""
        self._notifier.hold_exit(held)

    def discard(self) -> None:
        """It never came to be."""
        if self._console is not None:
            self._console.close()
        if self._pipes is not None:
            self._pipes.close_child_side()
        self.exit = self.exit or {}
        self.close()

    def close(self) -> None:
        """Let go of everything; the files stay."""
        self.is_closed = True
        self._backpressure.close()
        self.input.shut()
        for stream in self.output.values():
            stream.end()
        self.spool.close()
        self._end_file.close()

    def signal(self, number: int) -> str:
        """kill(2), which cannot hit a stranger: the pid is ours until it is reaped. Returns the outcome."""
        if self.is_gone or self.pid is None:
            return "already_exited" if self.is_gone else "not_found"
        os.kill(self.pid, number)
        return "delivered"

    def resize(self, rows: int, columns: int) -> None:
        """Raises RequestError when it has no terminal."""
        if self._master is None:
            raise RequestError("not_a_tty")
        with contextlib.suppress(OSError):  # hung up: there is nothing left to be resized
            set_size(self._master, rows, columns)

    def ended(self, result: os.waitid_result) -> None:
        """It is a zombie: write that down. To be called before it is reaped."""
        self.exit = {
            **_exit_of(result),
            "oom_seen": self._host.oom_kills() > self._oom_kills_before,
            "started_ns": self.started_ns,
            "exited_ns": time.time_ns(),
            "user_us": 0,
            "system_us": 0,
            "max_rss_kib": 0,
        }
        self.write_end()

    def reaped(self, usage: resource.struct_rusage) -> None:
        """Its pid is free. Take what its pipes hold; when that does not end, give it a little time."""
        assert self.exit is not None
        self.exit["user_us"] = int(usage.ru_utime * 1_000_000)
        self.exit["system_us"] = int(usage.ru_stime * 1_000_000)
        self.exit["max_rss_kib"] = usage.ru_maxrss
        self.input.shut()
        if self._console is not None:
            self._console.receive()
        still_coming = [stream.drain(DRAIN_BYTES_MAX) for stream in list(self.output.values())]
        if any(still_coming):
            self.loop.later(DRAIN_GRACE_S, self._finish_drain)
        else:
            self._finish_drain()

    def snapshot(self) -> Message:
        """What a worker that says hello is told about it."""
        return {
            "instance": self.instance,
            "id": self._id,
            "pid": self.pid,
            "stdin_offset": self.input.offset,
            "streams": self.stream_states(),
            "exit": self.exit if self.is_drained else None,
            "blocked_since_ns": self._backpressure.since_ns,
        }

    def arm(self, after: dict[int, int], knows_exit: bool) -> None:
        """Tell once when there is more than ``after`` says, or a stream of it ended, or the process exited."""
        self._notifier.arm(after, knows_exit)

    def consumed(self, offsets: dict[int, int]) -> None:
        """The named consumer has this much, and renews its lease."""
        self._backpressure.consumed(offsets)

    def appended(self) -> None:
        """See StreamOwner."""
        full = self.spool.storage_error is not None
        if full != self._storage_full:
            self._storage_full = full
            self._host.storage_changed(self.instance, full)
        self._notifier.growth()
        if not self._writes_back:
            self._writes_back = True
            self.loop.later(WRITE_BACK_S, self._write_back)

    def _write_back(self) -> None:
        self._writes_back = False
        self.spool.write_back()

    def blocked(self) -> None:
        """See StreamOwner."""
        self._backpressure.begin()

    def stream_ended(self, stream: int) -> None:
        """See StreamOwner."""
        if self.is_closed:
            return
        self.spool.announce_gaps()
        if stream == 1 and self._master is not None:
            self._master = None  # closed with the stream
            self.input.shut()
        self._notifier.stream_ended(stream)

    def _open_stdio(self, console_path: Path) -> None:
        if self.tty:
            self._console = ConsoleSocket(self.loop, console_path, self._take_master)
            return
        self._pipes = Pipes(with_input=self._wants_input)
        self.input = InputStream(self.loop, self._pipes.input)
        for stream, fd in self._pipes.output.items():
            self.output[stream] = OutputStream(self, stream, fd, tty=False)

    def _take_master(self, master: int) -> None:
        set_size(master, *self._size)
        self._master = master
        self.output[1] = OutputStream(self, 1, master, tty=True)
        if self._wants_input:
            self.input = InputStream(self.loop, os.dup(master), tty=True)

    def _finish_drain(self) -> None:
        self.spool.announce_gaps()
        self.is_drained = True
        self.write_end()
        self._notifier.exit()
        self._notifier.growth()

    def stream_numbers(self) -> list[int]:
        """Those it has: a terminal is one."""
        return [1] if self.tty else [1, 2]

    def is_open(self, stream: int) -> bool:
        """A terminal that has not come yet is open, unless its process is gone."""
        output = self.output.get(stream)
        return output.is_open if output is not None else not self.is_gone

    def stream_states(self) -> dict[str, Any]:
        """How far each is."""
        states = {}
        for stream in self.stream_numbers():
            state = self.spool.state(stream)
            states[str(stream)] = {"offset": state.offset, "crc": state.crc, "open": self.is_open(stream)}
        return states

    def write_end(self) -> None:
        """On disk: how far its streams are, and its exit."""
        try:
            self._end_file.write({"streams": self.stream_states(), "exit": self.exit})
        except OSError as error:  # its space was taken beforehand, so the disk is broken: the notices are what is left
            log(f"end of {self.instance}: {error}")


def _exit_of(result: os.waitid_result) -> dict[str, Any]:
    if result.si_code == os.CLD_EXITED:
        return {"type": "exited", "code": result.si_status}
    return {"type": "signalled", "signal": result.si_status, "core": result.si_code == os.CLD_DUMPED}


def _write_meta(path: Path, parameters: Message, time_ns: int) -> None:
    path.write_text(json.dumps({**parameters, "time_ns": time_ns}))
