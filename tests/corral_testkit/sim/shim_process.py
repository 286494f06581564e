"""One process as a simulated shim has it: the real spool and end file, and what the worker was told of it."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from corral_testkit.sim.disk import Disk
from corral_testkit.sim.runtime import Running
from corral_testkit.sim.witness import Life
from corral_worker.shim.base.wire import Message
from corral_worker.shim.spool.end_file import EndFile
from corral_worker.shim.spool.writer import SpoolWriter

STDIN_BYTES_MAX = 1 << 20
EARLY_S = 0.05


class SimSpoolWriter(SpoolWriter):
    """The real writer, on a disk that can be full."""

    disk: Disk

    def _write(self, pieces: Sequence[bytes | memoryview]) -> None:
        if self.disk.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super()._write(pieces)

    def _new_file(self, number: int, header: bytes) -> int:
        if self.disk.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._new_file(number, header)


class ShimProcess:
    """Streams, stdin offset and end of one process; `tell` sends a notice of it."""

    def __init__(
        self, parameters: Message, directory: Path, disk: Disk, tell: Callable[[Message], None], now_ns: Callable[[], int]
    ) -> None:
        self.instance: str = parameters["instance"]
        self.id: str = parameters["id"]
        self.directory = directory
        self.wants_stdin = bool(parameters["stdin"])
        self.running: Running | None = None
        self.started_ns = now_ns()
        self.announced = self.held = self.exit_told = False
        self.exit: dict[str, Any] | None = None
        self.stdin_offset = 0
        self._stdin_writers: dict[str, int] = {}
        self.stdin_closed = not self.wants_stdin
        self.early: set[int] = set()  # streams that ended, of which nobody was told
        self.armed: tuple[dict[int, int], bool] | None = None
        self._tell, self._now_ns = tell, now_ns
        self.spool = SimSpoolWriter(directory, cap_bytes=parameters["cap_bytes"], policy="drop", on_gap=self._on_gap)
        self.spool.disk = disk
        self._open = {1: True, 2: True}
        self._storage_is_full = False
        self._end_file: EndFile | None = None

    @property
    def life(self) -> Life:
        assert self.running is not None
        return self.running.life

    @property
    def can_be_forgotten(self) -> bool:
        return self.exit_told and not any(self._open.values())

    def _on_gap(self, stream: int, start: int, end: int, reason: str) -> None:
        self._tell({"t": "gap", "process": self.instance, "stream": stream, "from": start, "to": end, "reason": reason})

    def take_output(self, stream: int) -> bool:
        """What lies in a pipe goes into the spool. True when the stream ended now."""
        assert self.running is not None
        for data in self.running.pipes[stream]:
            self.spool.append(stream, data, self._now_ns())
        self.running.pipes[stream].clear()
        full = self.spool.storage_error is not None
        if full != self._storage_is_full:
            self._storage_is_full = full
            self._tell({"t": "storage", "full": full})
        ended = self._open[stream] and not self.running.open[stream]
        if ended:
            self._open[stream] = False
            self.spool.announce_gaps()
            self.early.add(stream)
        return ended

    def reap(self) -> None:
        """Its end, written down."""
        assert self.running is not None and self.life.end is not None
        for stream in (1, 2):
            self.take_output(stream)
        self.spool.announce_gaps()
        self.exit = {
            **self.life.end,
            "oom_seen": self.life.oom,
            "started_ns": self.started_ns,
            "exited_ns": self._now_ns(),
            "user_us": 0,
            "system_us": 0,
            "max_rss_kib": 0,
        }
        self.stdin_closed = True
        self.write_end()
        self.life.reaped = True

    def write_end(self) -> None:
        if self._end_file is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._end_file = EndFile(self.directory)
        self._end_file.write({"streams": self.stream_states(), "exit": self.exit})

    def tell_exit(self) -> None:
        """Once, after its creation and its start were answered."""
        if self.exit is None or not self.announced or self.held or self.exit_told:
            return
        self.exit_told = True
        self.early.clear()
        kinds = {key: self.exit[key] for key in ("type", "code", "signal", "core") if key in self.exit}
        others = {key: value for key, value in self.exit.items() if key not in kinds}
        ends = {}
        for stream, state in self.stream_states().items():
            place = "offset" if state["open"] else "total"
            ends[stream] = {"state": "open" if state["open"] else "closed", place: state["offset"], "crc": state["crc"]}
        self._tell({"t": "exit", "process": self.instance, "exit": kinds, **others, "streams": ends})

    def tell_ends(self) -> None:
        """Streams that ended apart from their process."""
        if not self.early or not self.announced or (self.exit is not None and not self.exit_told):
            return
        ended, self.early = sorted(self.early), set()
        self.write_end()
        for stream in ended:
            state = self.spool.state(stream)
            self._tell({"t": "stream_end", "process": self.instance, "stream": stream, "total": state.offset, "crc": state.crc})

    def stream_states(self) -> dict[str, Any]:
        found = {}
        for stream in (1, 2):
            state = self.spool.state(stream)
            found[str(stream)] = {"offset": state.offset, "crc": state.crc, "open": self._open[stream]}
        return found

    def snapshot(self) -> Message:
        pid = self.life.pid if self.running is not None else None
        return {
            "instance": self.instance,
            "id": self.id,
            "pid": pid,
            "stdin_offset": self.stdin_offset,
            "streams": self.stream_states(),
            "exit": self.exit,
            "blocked_since_ns": None,
        }

    def grew(self) -> Message | None:
        """What to tell whoever armed it; None: nothing yet."""
        if self.armed is None:
            return None
        after, knows_exit = self.armed
        moved = any(self.spool.state(stream).offset > offset or not self._open[stream] for stream, offset in after.items())
        if not moved and (self.exit is None or knows_exit):
            return None
        self.armed = None
        return {"t": "grew", "process": self.instance, "streams": self.stream_states(), "exited": self.exit is not None}

    def write_stdin(self, offset: int, data: bytes, writer: str) -> Message:
        """The response's content."""
        taken = self._taken_of(writer)
        had = bool(data) and offset + len(data) <= taken
        if (self.stdin_closed or self.running is None) and not had:
            return _error("stdin_closed", offset=taken)
        if offset > taken:
            return _error("stdin_gap", offset=taken)
        fresh = data[taken - offset :]
        self.stdin_offset += len(fresh)
        self._stdin_writers[writer] = taken + len(fresh)
        self.life.stdin += fresh
        return {"ok": {"offset": taken + len(fresh)}}

    def _taken_of(self, writer: str) -> int:
        return self._stdin_writers.get(writer, 0) if writer else self.stdin_offset

    def close_stdin(self, offset: int | None, writer: str) -> Message:
        taken = self._taken_of(writer)
        if offset is not None and offset > taken:
            return _error("stdin_gap", offset=taken)
        if not self.stdin_closed and self.running is not None:
            self.running.eof()
        self.stdin_closed = True
        return {"ok": {"offset": taken}}

    def close(self) -> None:
        self.spool.close()
        if self._end_file is not None:
            self._end_file.close()
            self._end_file = None


def _error(kind: str, text: str = "", exit_status: int | None = None, **details: Any) -> Message:
    return {"error": {"kind": kind, "exit_status": exit_status, "text": text, "details": details}}


def crc_of(data: bytes) -> int:
    return zlib.crc32(data)
