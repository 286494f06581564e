"""One process of the container: its streams, its spool, its end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time

from corral_worker.shim.answers import RequestError
from corral_worker.shim.backpressure import Backpressure
from corral_worker.shim.console import ConsoleSocket, set_size
from corral_worker.shim.end_file import EndFile
from corral_worker.shim.input import InputStream
from corral_worker.shim.light import Any, Path, Protocol
from corral_worker.shim.linux import log, runs_runtime
from corral_worker.shim.loop import Loop
from corral_worker.shim.output import OutputStream, ReadBuffer
from corral_worker.shim.pipes import Pipes
from corral_worker.shim.spool import SpoolWriter
from corral_worker.shim.wire import Message

DRAIN_BYTES_MAX = 1024 * 1024
DRAIN_GRACE_S = 0.1
# How long output stays with the kernel before it is asked to write it: a power cut costs little more than that.
WRITE_BACK_S = 1.0
# A stream that ends is told of by itself only when its process does not end with it.
END_TOGETHER_S = 0.05


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
        self._announced = False  # its create or exec was answered
        self._drained = False  # after its exit, what its pipes held is in the spool
        self._exit_told = False
        self._hold_exit = False
        self._closed = False
        self._ended_early: set[int] = set()  # streams that ended, of which nobody was told
        self._armed: tuple[dict[int, int], bool] | None = None
        self._storage_full = False
        self._writes_back = False
        self._oom_kills_before = host.oom_kills()
        self._master: int | None = None
        self.output: dict[int, OutputStream] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_meta(directory / "meta", parameters, self.started_ns)
        self._end_file = EndFile(directory)
        self.spool = SpoolWriter(directory, cap_bytes=cap_bytes, policy=policy, on_gap=self._on_gap)
        self._backpressure = Backpressure(host.loop, self.spool, self.output.values, lease_s, self._tell_blocked)
        self.input = InputStream(host.loop, None)
        self._pipes: Pipes | None = None
        self._console: ConsoleSocket | None = None
        try:
            self._open_stdio(console_path)
            self._write_end()
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
        return self._exit_told and not any(stream.is_open for stream in self.output.values())

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
        self._announced = True
        self._tell_ends_later()
        self._tell_exit()

    def set_started(self, time_ns: int) -> None:
        """A created container's init begins only now."""
        self.is_started = True
        self.started_ns = time_ns
        if self.exit is not None:
            self.exit["started_ns"] = time_ns
            self._write_end()

    def hold_exit(self, held: bool) -> None:
        """While its start is being answered its exit waits, since that comes after."""
        self._hold_exit = held
        self._tell_exit()

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
        self._closed = True
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
        self._write_end()

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
            "streams": self._stream_states(),
            "exit": self.exit if self._drained else None,
            "blocked_since_ns": self._backpressure.since_ns,
        }

    def arm(self, after: dict[int, int], knows_exit: bool) -> None:
        """Tell once when there is more than ``after`` says, or a stream of it ended, or the process exited."""
        self._armed = (after, knows_exit)
        self._tell_if_grew()

    def consumed(self, offsets: dict[int, int]) -> None:
        """The named consumer has this much, and renews its lease."""
        self._backpressure.consumed(offsets)

    def appended(self) -> None:
        """See StreamOwner."""
        full = self.spool.storage_error is not None
        if full != self._storage_full:
            self._storage_full = full
            self._host.storage_changed(self.instance, full)
        if self._armed is not None:
            self._tell_if_grew()
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
        if self._closed:
            return
        self.spool.announce_gaps()
        if stream == 1 and self._master is not None:
            self._master = None  # closed with the stream
            self.input.shut()
        self._ended_early.add(stream)
        if self._exit_told:
            self._tell_ends()
        else:
            self._tell_ends_later()
        if self._armed is not None:
            self._tell_if_grew()

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
        self._drained = True
        self._write_end()
        self._tell_exit()
        if self._armed is not None:
            self._tell_if_grew()

    def _tell_exit(self) -> None:
        """Once: what came of it, and how far its streams are."""
        if self.exit is None or not self._drained or not self._announced or self._hold_exit or self._exit_told:
            return
        self._exit_told = True
        self._ended_early.clear()
        kinds = {key: self.exit[key] for key in ("type", "code", "signal", "core") if key in self.exit}
        others = {key: value for key, value in self.exit.items() if key not in kinds}
        self._notify({"t": "exit", "exit": kinds, **others, "streams": self._stream_ends()})

    def _tell_ends_later(self) -> None:
        if self._ended_early and self._announced and not self._exit_told:
            self.loop.later(END_TOGETHER_S, self._tell_ends)

    def _tell_ends(self) -> None:
        if self._closed or (self.exit is not None and not self._exit_told):  # the exit will tell
            return
        ended, self._ended_early = sorted(self._ended_early), set()
        if not ended:
            return
        self._write_end()
        for stream in ended:
            state = self.spool.state(stream)
            self._notify({"t": "stream_end", "stream": stream, "total": state.offset, "crc": state.crc})

    def _tell_if_grew(self) -> None:
        assert self._armed is not None
        after, knows_exit = self._armed
        grew = any(self.spool.state(stream).offset > offset or not self._is_open(stream) for stream, offset in after.items())
        if grew or (self._drained and not knows_exit):
            self._armed = None
            streams = {
                str(stream): {"offset": self.spool.state(stream).offset, "open": self._is_open(stream)} for stream in self._stream_numbers()
            }
            message = {"t": "grew", "process": self.instance, "streams": streams, "exited": self._drained}
            self._host.send_droppable(message)

    def _tell_blocked(self, since_ns: int | None) -> None:
        self._notify({"t": "blocked", "since_ns": since_ns})

    def _on_gap(self, stream: int, start: int, end: int, reason: str) -> None:
        self._notify({"t": "gap", "stream": stream, "from": start, "to": end, "reason": reason})

    def _notify(self, message: Message) -> None:
        self._host.notify({"t": message["t"], "process": self.instance, **message})

    def _stream_numbers(self) -> list[int]:
        return [1] if self.tty else [1, 2]

    def _is_open(self, stream: int) -> bool:
        """A terminal that has not come yet is open, unless its process is gone."""
        output = self.output.get(stream)
        return output.is_open if output is not None else not self.is_gone

    def _stream_states(self) -> dict[str, Any]:
        states = {}
        for stream in self._stream_numbers():
            state = self.spool.state(stream)
            states[str(stream)] = {"offset": state.offset, "crc": state.crc, "open": self._is_open(stream)}
        return states

    def _stream_ends(self) -> dict[str, Any]:
        ends: dict[str, Any] = {}
        for stream, state in self._stream_states().items():
            place = "offset" if state["open"] else "total"
            kind = "open" if state["open"] else "closed"
            ends[stream] = {"state": kind, place: state["offset"], "crc": state["crc"]}
        return ends

    def _write_end(self) -> None:
        try:
            self._end_file.write({"streams": self._stream_states(), "exit": self.exit})
        except OSError as error:  # its space was taken beforehand, so the disk is broken: the notices are what is left
            log(f"end of {self.instance}: {error}")


def _exit_of(result: os.waitid_result) -> dict[str, Any]:
    if result.si_code == os.CLD_EXITED:
        return {"type": "exited", "code": result.si_status}
    return {"type": "signalled", "signal": result.si_status, "core": result.si_code == os.CLD_DUMPED}


def _write_meta(path: Path, parameters: Message, time_ns: int) -> None:
    path.write_text(json.dumps({**parameters, "time_ns": time_ns}))
