"""How a spool looks on disk: the one place that writer and reader share.

A spool is a directory of segment files ``000001.spool``, ``000002.spool`` …, each a header and records, all
little-endian. The CRC-32 in a record runs over its whole stream up to the record's end. Each header carries a check of
itself, so that a header read while it is being written, or bytes left over in a reused file, are never taken for one.
"""

from __future__ import annotations

import re
import struct
import zlib

from corral_worker.shim.base.light import Path, dataclass

MAGIC = b"CSPL1\n\0\0"
STREAMS = (1, 2)
SEGMENT_BYTES_MAX = 8 * 1024 * 1024
SEGMENT_BYTES_MIN = 16 * 1024
RECORD_BYTES_MAX = 256 * 1024
SEGMENTS_PER_CAP = 4
SEGMENT_NAME = re.compile(r"(\d{6,})\.spool")

# A mark holds no bytes: it says where a stream stands after bytes were given up, and why.
FLAG_MARK = 1
REASON_CODES = {"cap": 1, "disk_full": 2, "io_error": 3}
REASON_NAMES = {code: name for name, code in REASON_CODES.items()}

# magic, segment number, time_ns, (offset, crc, pad) of stream 1 and of stream 2; then the check and padding
_SEGMENT = struct.Struct("<8sQQQIIQII")
_SEGMENT_CHECK = struct.Struct("<II")
SEGMENT_HEADER_BYTES = _SEGMENT.size + _SEGMENT_CHECK.size
# stream, flags, reason, length, offset, time_ns, crc; then the check
_RECORD = struct.Struct("<BBHIQQI")
_RECORD_CHECK = struct.Struct("<I")
RECORD_HEADER_BYTES = _RECORD.size + _RECORD_CHECK.size
NO_RECORD = bytes(RECORD_HEADER_BYTES)


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands: bytes since it began, and the CRC-32 over them."""

    offset: int = 0
    crc: int = 0


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first bytes of a segment: its number, when it was begun, where each stream stood then."""

    number: int
    time_ns: int
    streams: dict[int, StreamState]


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """``offset`` is that of the record's first byte; for a mark it is where the stream goes on."""

    stream: int
    flags: int
    reason: int
    length: int
    offset: int
    time_ns: int
    crc: int


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"{number:06d}.spool"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of the segments that are there, oldest first. Raises OSError (but an absent directory has none)."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := SEGMENT_NAME.fullmatch(name)))


def segment_bytes_for(cap_bytes: int) -> int:
    """Segment size under a cap: a cap must hold several, or dropping one would drop all."""
    size = min(SEGMENT_BYTES_MAX, max(SEGMENT_BYTES_MIN, cap_bytes // SEGMENTS_PER_CAP))
    return size - size % 4096


def pack_segment_header(header: SegmentHeader) -> bytes:
    """The header's bytes."""
    one, two = header.streams[1], header.streams[2]
    body = _SEGMENT.pack(MAGIC, header.number, header.time_ns, one.offset, one.crc, 0, two.offset, two.crc, 0)
    return body + _SEGMENT_CHECK.pack(zlib.crc32(body), 0)


def parse_segment_header(data: bytes | memoryview) -> SegmentHeader | None:
    """The header at the start of ``data``, None when there is no whole and valid one."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    magic, number, time_ns, offset_1, crc_1, _, offset_2, crc_2, _ = _SEGMENT.unpack_from(data)
    (check, _) = _SEGMENT_CHECK.unpack_from(data, _SEGMENT.size)
    if magic != MAGIC or check != zlib.crc32(data[: _SEGMENT.size]):
        return None
    return SegmentHeader(number, time_ns, {1: StreamState(offset_1, crc_1), 2: StreamState(offset_2, crc_2)})


def pack_record_header(stream: int, length: int, offset: int, time_ns: int, crc: int, *, flags: int = 0, reason: int = 0) -> bytes:
    """A record header's bytes."""
    body = _RECORD.pack(stream, flags, reason, length, offset, time_ns, crc)
    return body + _RECORD_CHECK.pack(zlib.crc32(body))


def parse_record_header(data: bytes | memoryview, position: int = 0) -> RecordHeader | None:
    """The record header at ``position``, None when there is no whole and valid one."""
    if len(data) < position + RECORD_HEADER_BYTES:
        return None
    stream, flags, reason, length, offset, time_ns, crc = _RECORD.unpack_from(data, position)
    if stream not in STREAMS or length > RECORD_BYTES_MAX:
        return None
    (check,) = _RECORD_CHECK.unpack_from(data, position + _RECORD.size)
    if check != zlib.crc32(data[position : position + _RECORD.size]):
        return None
    return RecordHeader(stream, flags, reason, length, offset, time_ns, crc)
