"""The spool's writer: what a process wrote, on disk, within a cap, never a missing byte unannounced."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

from corral_worker.shim.base.checksum import crc32
from corral_worker.shim.base.light import Literal, Path, dataclass
from corral_worker.shim.base.linux import start_writeback
from corral_worker.shim.spool.format import (
    FLAG_MARK,
    NO_RECORD,
    REASON_CODES,
    RECORD_BYTES_MAX,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    STREAMS,
    SegmentHeader,
    StreamState,
    pack_record_header,
    pack_segment_header,
    segment_bytes_for,
    segment_name,
)

Policy = Literal["drop", "block"]
# stream, from, to, reason
GapListener = Callable[[int, int, int, str], None]

SPARES_MAX = 2
SEGMENTS_MIN = 2
# With less room than this a segment is closed rather than filled with crumbs.
CRUMB_BYTES = 4096
FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class _Segment:
    number: int
    start: dict[int, StreamState]


class SpoolWriter:
    """Appends the output of one process. One owner, one thread; files appear with the first byte.

    Policy ``drop``: every byte is accepted; at the cap the oldest segment goes, on a full disk bytes are discarded, and
    both are told to ``on_gap``. Policy ``block``: bytes that do not fit are not accepted, until ``consumed`` says that
    the oldest segment may go.
    """

    def __init__(self, directory: Path, *, cap_bytes: int, policy: Policy, on_gap: GapListener) -> None:
        self.policy: Policy = policy
        self.storage_error: str | None = None
        self._directory = directory
        self._segment_bytes = segment_bytes_for(cap_bytes)
        self._segments_max = max(SEGMENTS_MIN, cap_bytes // self._segment_bytes)
        self._on_gap = on_gap
        self._states = {stream: StreamState() for stream in STREAMS}
        self._consumed = dict.fromkeys(STREAMS, 0)
        self._segments: deque[_Segment] = deque()
        self._spares: list[Path] = []
        self._fd: int | None = None
        self._position = 0  # where the next record goes in the current segment
        self._unmarked: dict[int, str] = {}  # stream -> reason: bytes given up that no mark in the spool tells of yet
        self._unannounced: dict[int, tuple[int, int, str]] = {}  # stream -> from, to, reason

    def state(self, stream: int) -> StreamState:
        """Bytes and CRC-32 of a stream so far, those that were given up included."""
        return self._states[stream]

    def room_bytes(self) -> int:
        """About how many bytes ``append`` would accept now; a hint, it may accept fewer."""
        if self.policy == "drop":
            return 1 << 62
        droppable = 0
        for _, following in zip(self._segments, list(self._segments)[1:], strict=False):
            if not self._is_consumed(following.start):
                break
            droppable += 1
        segments_left = self._segments_max - len(self._segments) + droppable
        room = segments_left * (self._segment_bytes - SEGMENT_HEADER_BYTES - CRUMB_BYTES)
        return max(0, room + self._room_in_segment() - CRUMB_BYTES)

    def consumed(self, offsets: dict[int, int]) -> None:
        """The one named consumer of a ``block`` process has everything below these offsets."""
        for stream, offset in offsets.items():
            if stream in self._consumed:
                self._consumed[stream] = max(self._consumed[stream], offset)

    def append(self, stream: int, data: bytes | memoryview, time_ns: int) -> int:
        """Append bytes of a stream; returns how many were accepted (under ``drop``: all).

        A storage error is no exception here: ``storage_error`` says so until a write succeeds again.
        """
        view = memoryview(data)
        done = 0
        while done < len(view):
            try:
                taken = self._append_some(stream, view[done:], time_ns)
            except OSError as error:
                self.storage_error = "disk_full" if error.errno in FULL_DISK_ERRORS else "io_error"
                if self.storage_error == "disk_full" and self._free_a_segment():
                    continue
                if self.policy == "block":
                    return done
                self._discard(stream, view[done:], self.storage_error)
                return len(view)
            if taken == 0:
                return done
            done += taken
        return done

    def announce_gaps(self) -> None:
        """Tell ``on_gap`` of bytes given up that it was not told of yet (it is told of a run of them once, at its end)."""
        for stream, (start, end, reason) in self._unannounced.items():
            self._on_gap(stream, start, end, reason)
        self._unannounced.clear()

    def write_back(self) -> None:
        """Have the kernel begin to write what was appended, without waiting."""
        if self._fd is not None:
            start_writeback(self._fd, self._position)

    def close(self) -> None:
        """Close the files. What was appended stays; what was kept aside for reuse goes."""
        self.announce_gaps()
        self._close_segment()
        for spare in self._spares:
            spare.unlink(missing_ok=True)
        self._spares.clear()

    def _append_some(self, stream: int, view: memoryview, time_ns: int) -> int:
        """Append what the current segment takes (a new one is begun when it takes nothing). 0: the cap forbids more."""
        if self._room_in_segment() < min(CRUMB_BYTES, len(view)) and not self._roll():
            return 0
        pieces: list[bytes | memoryview] = []
        for marked, reason in self._unmarked.items():
            at = self._states[marked]
            code = REASON_CODES[reason]
            pieces.append(pack_record_header(marked, 0, at.offset, time_ns, at.crc, flags=FLAG_MARK, reason=code))
        room = self._room_in_segment() + RECORD_HEADER_BYTES
        state = self._states[stream]
        taken = 0
        while taken < len(view) and room > RECORD_HEADER_BYTES:
            length = min(RECORD_BYTES_MAX, room - RECORD_HEADER_BYTES, len(view) - taken)
            payload = view[taken : taken + length]
            crc = crc32(payload, state.crc)
            pieces += (pack_record_header(stream, length, state.offset, time_ns, crc), payload)
            state = StreamState(state.offset + length, crc)
            taken += length
            room -= RECORD_HEADER_BYTES + length
        self._write(pieces)
        self._states[stream] = state
        self._unmarked.clear()
        self.storage_error = None
        self.announce_gaps()
        return taken

    def _write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append whole records. Their first header goes last: until then a reader finds an end in its place.

        So a write that fails half-way, or is seen half-way, never happened; and old bytes in a reused file stay unseen.
        """
        assert self._fd is not None
        first, behind = pieces[0], [*pieces[1:], NO_RECORD]
        behind_bytes = sum(len(piece) for piece in behind)
        if os.pwritev(self._fd, behind, self._position + len(first)) != behind_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if os.pwrite(self._fd, first, self._position) != len(first):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._position += len(first) + behind_bytes - len(NO_RECORD)

    def _room_in_segment(self) -> int:
        """Bytes of payload (in one record) that the current segment still takes, marks that are due set aside."""
        if self._fd is None:
            return 0
        headers = RECORD_HEADER_BYTES * (1 + len(self._unmarked))
        return max(0, self._segment_bytes - self._position - headers)

    def _roll(self) -> bool:
        """Begin the next segment; False when the cap forbids it. Raises OSError."""
        if len(self._segments) >= self._segments_max:
            if self.policy == "block" and not self._is_consumed(self._segments[1].start):
                return False
            self._drop_oldest(keep_file=True)
        self._close_segment()
        number = self._segments[-1].number + 1 if self._segments else 1
        start = dict(self._states)
        self._fd = self._new_file(number, pack_segment_header(SegmentHeader(number, time.time_ns(), start)))
        self._position = SEGMENT_HEADER_BYTES
        self._segments.append(_Segment(number, start))
        return True

    def _new_file(self, number: int, header: bytes) -> int:
        """A file under the segment's name, its header written before it has the name."""
        source = self._spares[-1] if self._spares else self._directory / "next"
        fd = os.open(source, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            content = header + NO_RECORD
            if os.pwrite(fd, content, 0) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            source.rename(self._directory / segment_name(number))
        except OSError:
            os.close(fd)
            raise
        if self._spares:
            self._spares.pop()
        return fd

    def _close_segment(self) -> None:
        if self._fd is not None:
            start_writeback(self._fd, self._position)
            os.close(self._fd)
            self._fd = None

    def _drop_oldest(self, *, keep_file: bool) -> None:
        oldest = self._segments[0]
        path = self._directory / segment_name(oldest.number)
        if keep_file and len(self._spares) < SPARES_MAX:
            spare = self._directory / f"spare-{oldest.number}"
            path.rename(spare)
            self._spares.append(spare)
        else:
            path.unlink(missing_ok=True)
        self._segments.popleft()
        for stream, state in oldest.start.items():
            end = self._segments[0].start[stream].offset
            # What a consumer has acknowledged goes without a word: a late reader finds the gap when it looks.
            if self.policy == "drop" and end > state.offset:
                self._on_gap(stream, state.offset, end, "cap")

    def _free_a_segment(self) -> bool:
        """Give back disk space of ours: files kept aside, then (under ``drop``) the oldest segment."""
        if self._spares:
            self._spares.pop().unlink(missing_ok=True)
            return True
        if self.policy == "block" or len(self._segments) < SEGMENTS_MIN:
            return False
        self._drop_oldest(keep_file=False)
        return True

    def _discard(self, stream: int, view: memoryview, reason: str) -> None:
        before = self._states[stream]
        after = StreamState(before.offset + len(view), crc32(view, before.crc))
        self._states[stream] = after
        start = self._unannounced.get(stream, (before.offset, 0, reason))[0]
        self._unannounced[stream] = (start, after.offset, reason)
        self._unmarked[stream] = reason

    def _is_consumed(self, offsets: dict[int, StreamState]) -> bool:
        return all(self._consumed[stream] >= state.offset for stream, state in offsets.items())
