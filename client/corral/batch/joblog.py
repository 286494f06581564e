"""The joblog on disk: JSON Lines, appended to, synced before anything is sent. And GNU parallel's columns of it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from corral.batch.records import AnyRecord, Ended, from_line, to_line

TSV_HEAD = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
_STATUS_BY_OUTCOME = {"ok": 0, "timeout": -1}


class JoblogError(Exception):
    """A joblog that cannot be what a run wrote."""


class Joblog:
    """Appends. What a killed writer left of its last line is cut off first."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        whole = _whole_bytes(self._descriptor)
        os.ftruncate(self._descriptor, whole)
        os.lseek(self._descriptor, whole, os.SEEK_SET)

    def append(self, records: Iterable[AnyRecord]) -> None:
        """Into the kernel, in one write: a kill of this process loses none of it. Raises OSError."""
        data = memoryview(b"".join(map(to_line, records)))
        while data:
            data = data[os.write(self._descriptor, data) :]

    def sync(self) -> None:
        """Onto the disk. Raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def read_joblog(path: Path) -> Iterator[AnyRecord]:
    """Its records; a last line without its end is left out. Raises JoblogError, OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield from_line(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as why:
                raise JoblogError(f"{path}, line {number}: {why}") from why


def _whole_bytes(descriptor: int) -> int:
    """Up to and with the last line break."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        start = max(0, end - (64 << 10))
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def tsv_line(ended: Ended, command: str) -> str:
    """GNU parallel's columns: times in seconds, Exitval -1 where no process ended in time, Command without tabs and line breaks."""
    began_s = (ended.started_ns or ended.time_ns) / 1e9
    runtime_s = max(0.0, ended.time_ns / 1e9 - began_s)
    status = ended.status if ended.status is not None else _STATUS_BY_OUTCOME.get(ended.outcome, 255)
    shown = " ".join(command.split())
    columns = (ended.number, ended.guest or ":", f"{began_s:.3f}", f"{runtime_s:.3f}", ended.sent_bytes, ended.received_bytes)
    return "\t".join(map(str, (*columns, 0 if ended.signal else status, ended.signal, shown))) + "\n"
