"""The history on disk: one file that is appended to, each record with its checksum, and written anew once it holds too much.

What was published is in the kernel before: it survives kill -9 of the broker. A power cut may take the last half minute; then, and where
the disk was full for a while, the seqs that may have been used are passed over, so that none is used twice.

    file   = head record*
    head   = "corral-history 1 " state epoch " " boot "\n"          state: = in step, ! behind; boot: an id of 36 characters
    record = length u32, crc32 u32, msgpack [header, payload]
"""

import fcntl
import logging
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from corral_broker.state.history import HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, Entry, History, Standing
from corral_broker.state.whole_file import write_whole
from corral_schemas.events import EventHeader

FILE_NAME = "guest-history"
SEQ_JUMP = 1 << 20
"""Far more events than can be published before the kernel writes them to disk."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAGIC, _IN_STEP, _BEHIND = b"corral-history 1 ", b"=", b"!"
_EPOCH_CHARS = 16
_BOOT_CHARS = 36
_HEAD_BYTES = len(_MAGIC) + 1 + _EPOCH_CHARS + 1 + _BOOT_CHARS + 1
_record = struct.Struct("<II")
_entry = msgspec.msgpack.Decoder(Entry)
_header = msgspec.msgpack.Decoder(EventHeader)

log = logging.getLogger(__name__)


class HistoryFile:
    """One broker's, which holds it alone."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError where the directory cannot be made."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / FILE_NAME
        self._file = -1
        self._bytes = self._records = 0
        self._behind = True  # the file lacks something: it is written anew with the next event
        self.history = History(secrets.token_hex(_EPOCH_CHARS // 2), durable=True, store=self._store)
        self.standing: dict[str, Standing] = {}
        self.previous: Literal["", "stopped", "died"] = ""
        """How the broker before ended; empty where there was none."""
        self.written_ns = 0
        """When it wrote last."""
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("history_busy: another broker keeps %s; this one keeps its own in memory", self.path)
            self.history = History(self.history.epoch)
            return
        self._read()

    def sync(self) -> None:
        """Onto the disk, at the end of the broker. A failure is said in the log."""
        if not self.history.durable:
            return
        try:
            if self._behind:
                self._write_anew()
            os.fdatasync(self._file)
        except OSError as why:
            self._say(why)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _read(self) -> None:
        try:
            content = self.path.read_bytes()
            self.written_ns = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        except OSError as why:
            log.warning("history_unreadable: %s: %s; starting without it", self.path, why)
            return
        epoch = _epoch_in(content)
        if not epoch:
            log.warning("history_unreadable: %s is no history; starting without it", self.path)
            return
        self.history.epoch = epoch
        events, whole_bytes = _events_in(content)
        self.standing = self.history.load(events)
        last = events[-1][0] if events else None
        self.written_ns = max(self.written_ns, last.time_ns if last else 0)
        self.previous = "" if last is None else "stopped" if last.kind == "broker_stopped" else "died"
        in_step = content[len(_MAGIC) : len(_MAGIC) + 1] == _IN_STEP and whole_bytes == len(content)
        if not in_step or (self.previous == "died" and not content.startswith(_head(epoch))):
            log.warning("history_cut: the end of %s may be missing; what was published since is a gap", self.path)
            self.history.seq += SEQ_JUMP
            return
        try:
            self._open(whole_bytes, len(events))
        except OSError as why:
            self._say(why)

    def _store(self, entry: Entry) -> None:
        """Into the kernel. What the disk does not take is tried again with the next event."""
        try:
            if self._behind or self._records > 2 * HISTORY_EVENTS_MAX or self._bytes > 2 * HISTORY_BYTES_MAX:
                self._write_anew()
                return
            data = _packed(entry)
            done = os.pwrite(self._file, data, self._bytes)
            if done < len(data):
                raise OSError(28, "only a part of it was written")
            self._bytes += len(data)
            self._records += 1
        except OSError as why:
            self._say(why)
            self._fall_behind()

    def _write_anew(self) -> None:
        self._behind = True
        records = [_packed(entry) for entry in self.history.entries]
        content = _head(self.history.epoch) + b"".join(records)
        write_whole(self.path, content)
        self._open(len(content), len(records))

    def _open(self, size: int, records: int) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self._file, _head(self.history.epoch), 0)
        self._bytes, self._records, self._behind = size, records, False

    def _fall_behind(self) -> None:
        """Says so in the file, where a full disk has room for it: in place of another byte."""
        self._behind = True
        try:
            if self._file >= 0:
                os.pwrite(self._file, _BEHIND, len(_MAGIC))
        except OSError as why:
            self._say(why)

    def _say(self, why: OSError) -> None:
        log.warning("history_unwritable: %s: %s", self.path, why)


def boot_id() -> str:
    """Of the running system; empty where it has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _head(epoch: str) -> bytes:
    """Of this boot, and in step."""
    return _MAGIC + _IN_STEP + f"{epoch} {boot_id():<{_BOOT_CHARS}}\n".encode()


def _packed(entry: Entry) -> bytes:
    body = msgspec.msgpack.encode(entry)
    return _record.pack(len(body), zlib.crc32(body)) + body


def _epoch_in(content: bytes) -> str:
    """Empty where it is no history."""
    head = content[:_HEAD_BYTES]
    if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC) or not head.endswith(b"\n"):
        return ""
    epoch = head[len(_MAGIC) + 1 :][:_EPOCH_CHARS]
    return epoch.decode() if epoch.isalnum() else ""


def _events_in(content: bytes) -> tuple[list[tuple[EventHeader, Entry]], int]:
    """The records up to the first that is not whole, and where that begins."""
    events: list[tuple[EventHeader, Entry]] = []
    at = _HEAD_BYTES
    for body, end in _bodies(content, at):
        try:
            entry = _entry.decode(body)
            events.append((_header.decode(entry.header), entry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
        at = end
    return events, at


def _bodies(content: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    while at + _record.size <= len(content):
        length, crc = _record.unpack_from(content, at)
        body = content[at + _record.size : at + _record.size + length]
        if len(body) < length or zlib.crc32(body) != crc:
            return
        at += _record.size + length
        yield body, at
