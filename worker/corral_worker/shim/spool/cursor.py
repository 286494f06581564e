"""A place in a spool's segment, walking forward. Safe beside the writer, which may drop and reuse the file meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from corral_worker.shim.spool.format import (
    FLAG_MARK,
    NO_RECORD,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    RecordHeader,
    SegmentHeader,
    StreamState,
    parse_record_header,
    parse_segment_header,
    segment_name,
    segment_numbers,
)

READ_BYTES_FIRST = 64 * 1024
READ_BYTES_MAX = 1024 * 1024 + 8 * RECORD_HEADER_BYTES


class SegmentGoneError(Exception):
    """The file is no longer this segment (dropped and reused, or damaged): what was just read does not count."""


class SegmentCursor:
    """Walks the records of one open segment."""

    def __init__(self, directory: Path, number: int) -> None:
        """Open a segment. Raises FileNotFoundError; SegmentGoneError when it has no valid header of that number."""
        self.number = number
        self.position = SEGMENT_HEADER_BYTES
        self._fd = os.open(directory / segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
        self._buffer = b""
        self._buffer_at = 0
        self._read_bytes = READ_BYTES_FIRST
        try:
            self.header = self._read_header()
        except SegmentGoneError:
            os.close(self._fd)
            raise
        self.streams: dict[int, StreamState] = dict(self.header.streams)  # where each stands before the record here

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def begin_read(self) -> None:
        """Read ahead little at first: most reads of a live spool find little."""
        self._read_bytes = READ_BYTES_FIRST

    def peek(self) -> RecordHeader | None:
        """The header of the record here, all of it readable; None at the end of what is written.

        Raises SegmentGoneError.
        """
        header = self._whole_record_in_buffer()
        if header is None:
            self._refill(RECORD_HEADER_BYTES)
            partial = parse_record_header(self._buffer)
            header = self._whole_record_in_buffer()
            if partial is not None and header is None:
                self._refill(RECORD_HEADER_BYTES + partial.length)
                header = self._whole_record_in_buffer()
        if header is None:
            return None
        at = self.streams[header.stream].offset
        follows = header.offset >= at if header.flags & FLAG_MARK else header.offset == at
        return header if follows else None

    def payload(self, header: RecordHeader) -> memoryview:
        """The bytes of the record that ``peek`` just gave."""
        start = self.position - self._buffer_at + RECORD_HEADER_BYTES
        return memoryview(self._buffer)[start : start + header.length]

    def advance(self, header: RecordHeader) -> None:
        """Step over the record that ``peek`` just gave."""
        self.streams[header.stream] = StreamState(header.offset + header.length, header.crc)
        self.position += RECORD_HEADER_BYTES + header.length

    def ends_cleanly(self) -> bool:
        """Nothing lies here, as the writer leaves it at an end; otherwise what lies here is damaged."""
        return os.pread(self._fd, RECORD_HEADER_BYTES, self.position) in (b"", NO_RECORD)

    def _whole_record_in_buffer(self) -> RecordHeader | None:
        at = self.position - self._buffer_at
        header = parse_record_header(self._buffer, at)
        if header is None or len(self._buffer) - at < RECORD_HEADER_BYTES + header.length:
            return None
        return header

    def _refill(self, need_bytes: int) -> None:
        self._buffer = os.pread(self._fd, max(need_bytes, self._read_bytes), self.position)
        self._buffer_at = self.position
        self._read_bytes = min(READ_BYTES_MAX, self._read_bytes * 4)
        self._read_header()  # a reused file gets its new header first: while ours is there, what we read is ours

    def _read_header(self) -> SegmentHeader:
        header = parse_segment_header(os.pread(self._fd, SEGMENT_HEADER_BYTES, 0))
        if header is None or header.number != self.number:
            raise SegmentGoneError(self.number)
        return header


def try_open(directory: Path, number: int) -> SegmentCursor | None:
    """A cursor at the segment's start, None when it is gone or damaged."""
    try:
        return SegmentCursor(directory, number)
    except (FileNotFoundError, SegmentGoneError):
        return None


def find_segment(directory: Path, offsets: dict[int, int]) -> SegmentCursor | None:
    """The last segment that begins at or before all these offsets, else the oldest one, None when there is none."""
    oldest: SegmentCursor | None = None
    for number in reversed(segment_numbers(directory)):
        cursor = try_open(directory, number)
        if cursor is None:
            continue
        if oldest is not None:
            oldest.close()
        oldest = cursor
        if all(cursor.header.streams[stream].offset <= offset for stream, offset in offsets.items()):
            break
    return oldest


def next_segment(directory: Path, number: int) -> SegmentCursor | None:
    """A cursor at the first segment after ``number`` that is there and sound."""
    for later in segment_numbers(directory):
        if later > number and (cursor := try_open(directory, later)) is not None:
            return cursor
    return None
