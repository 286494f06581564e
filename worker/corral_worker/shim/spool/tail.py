"""Finding places in a spool: its bounds, its last lines, a time; and cutting off a torn end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from corral_worker.shim.base.checksum import crc32
from corral_worker.shim.spool.cursor import SegmentCursor, SegmentGoneError, try_open
from corral_worker.shim.spool.end_file import END_FILE_NAME, read_end
from corral_worker.shim.spool.format import STREAMS, RecordHeader, StreamState, segment_name, segment_numbers

# stream, offset of the first byte, bytes
_Piece = tuple[int, int, memoryview]


def bounds(directory: Path) -> dict[int, tuple[int, int]]:
    """Per stream the first retained offset and the end. Raises OSError."""
    first = dict.fromkeys(STREAMS, 0)
    for number in segment_numbers(directory):
        if (cursor := try_open(directory, number)) is not None:
            cursor.close()
            first = {stream: state.offset for stream, state in cursor.header.streams.items()}
            break
    ends = _ends(directory)
    told = read_end(directory / END_FILE_NAME)
    for stream, state in told["streams"].items() if told else ():
        ends[int(stream)] = max(ends[int(stream)], state["offset"])
    return {stream: (first[stream], max(first[stream], ends[stream])) for stream in STREAMS}


def offset_at_time(directory: Path, time_ns: int) -> dict[int, int]:
    """Per stream the offset of the first byte written at ``time_ns`` or later (its end, when none was)."""
    start = None
    for number in segment_numbers(directory):
        cursor = try_open(directory, number)
        if cursor is None:
            continue
        cursor.close()
        if start is not None and cursor.header.time_ns > time_ns:
            break
        start = number
    if start is None:
        return dict.fromkeys(STREAMS, 0)
    for number in (number for number in segment_numbers(directory) if number >= start):
        cursor = try_open(directory, number)
        if cursor is None:
            continue
        for header in _records(cursor):
            if header.time_ns >= time_ns:
                offsets = {stream: state.offset for stream, state in cursor.streams.items()}
                cursor.close()
                return offsets
        cursor.close()
    return _ends(directory)


def offset_of_last_lines(directory: Path, streams: set[int], count: int) -> dict[int, int]:
    """Per stream where the last ``count`` lines of all of them together begin; a last line may lack its newline."""
    ends = {stream: end for stream, (_, end) in bounds(directory).items() if stream in streams}
    starts = dict(ends)
    if count <= 0:
        return starts
    unfinished = dict.fromkeys(streams, False)  # bytes were seen whose line's start was not found yet
    found = 0
    reached: dict[int, int] = dict(ends)
    for stream, offset, data in _pieces_backwards(directory, streams):
        reached[stream] = offset
        at = len(data)
        content = bytes(data)
        while (at := content.rfind(b"\n", 0, at)) >= 0:
            line_start = offset + at + 1
            if line_start < ends[stream]:
                starts[stream] = line_start
                found += 1
                unfinished[stream] = False
                if found >= count:
                    return starts
        unfinished[stream] = offset > 0
        if offset == 0:  # the stream's first line begins without a newline before it
            starts[stream] = 0
            found += 1
            if found >= count:
                return starts
    for stream in sorted(streams):
        if unfinished[stream] and found < count:
            starts[stream] = reached[stream]
            found += 1
    return starts


def repair_tail(directory: Path) -> int:
    """Cut what a crash left torn, zeroed or unreadable at the end; the number of bytes cut. Only without a writer. Raises OSError."""
    cut_bytes = 0
    for number in reversed(segment_numbers(directory)):
        path = directory / segment_name(number)
        size = path.stat().st_size
        cursor = try_open(directory, number)
        if cursor is None:  # not even its header reached the disk: what was before it may be torn too
            path.unlink()
            cut_bytes += size
            continue
        for header in _records(cursor):
            if crc32(cursor.payload(header), cursor.streams[header.stream].crc) != header.crc:
                break
        torn = not cursor.ends_cleanly()  # zeros, or what a reused file held before, lie behind every end
        cursor.close()
        if torn:
            os.truncate(path, min(size, cursor.position))
            cut_bytes += max(0, size - cursor.position)
        return cut_bytes
    return cut_bytes


def ends_kept(directory: Path) -> dict[int, StreamState]:
    """Per stream the offset behind the last byte that is in the spool, and the checksum up to there. Raises OSError."""
    for number in reversed(segment_numbers(directory)):
        if (cursor := try_open(directory, number)) is not None:
            states: dict[int, StreamState] = cursor.streams
            for _ in _records(cursor):
                states = cursor.streams
            cursor.close()
            return dict(states)
    return dict.fromkeys(STREAMS, StreamState())


def _ends(directory: Path) -> dict[int, int]:
    return {stream: state.offset for stream, state in ends_kept(directory).items()}


def _records(cursor: SegmentCursor) -> Iterator[RecordHeader]:
    """The records from the cursor on; while one is given the cursor stands on it."""
    while True:
        try:
            header = cursor.peek()
        except SegmentGoneError:
            return
        if header is None:
            return
        yield header
        cursor.advance(header)


def _pieces_backwards(directory: Path, streams: set[int]) -> Iterator[_Piece]:
    """The records' bytes of these streams, last first; a segment at a time is held in memory."""
    for number in reversed(segment_numbers(directory)):
        cursor = try_open(directory, number)
        if cursor is None:
            continue
        pieces = [
            (header.stream, header.offset, cursor.payload(header))
            for header in _records(cursor)
            if header.stream in streams and header.length
        ]
        cursor.close()
        yield from reversed(pieces)
