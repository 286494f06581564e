"""What a read of a spool gives: chunks and gaps, and how they are put together from records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corral_worker.shim.base.checksum import crc32
from corral_worker.shim.spool.cursor import SegmentCursor
from corral_worker.shim.spool.format import FLAG_MARK, REASON_NAMES, RECORD_BYTES_MAX, RecordHeader

CHUNK_BYTES_MAX = RECORD_BYTES_MAX
JOIN_WITHIN_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one stream. ``crc_before`` and ``crc``: the stream's CRC-32 before and after them."""

    stream: int
    offset: int
    time_ns: int
    crc_before: int
    crc: int
    data: bytes | memoryview

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes ``start`` to ``end`` of one stream that are not there.

    ``reason``: cap, disk_full, io_error, segment_missing, corrupt, or missing (the stream ended further on than what
    is there, and nothing says why).
    """

    stream: int
    start: int
    end: int
    reason: str


class ReadInProgress:
    """One read in the making: ``want`` moves on from the offsets asked for as ``items`` grows."""

    def __init__(self, offsets: dict[int, int], max_bytes: int, *, verify: bool) -> None:
        self.want = dict(offsets)
        self.items: list[Chunk | Gap] = []
        self._bytes_left = max_bytes
        self._verify = verify
        self._pieces: list[memoryview] = []  # of the last chunk in items, when it was joined from several records
        self._pieces_bytes = 0
        self._crc = 0

    def enter_segment(self, cursor: SegmentCursor, reason: str) -> None:
        """A segment begins: what is wanted from before it is gone, for this reason."""
        for stream, state in cursor.header.streams.items():
            self._skip_to(stream, state.offset, reason)

    def take(self, cursor: SegmentCursor, header: RecordHeader) -> bool:
        """Use the record under the cursor, and step over it when all of it was used. False: this read is full."""
        wanted = self.want.get(header.stream)
        end = header.offset + header.length
        if wanted is not None and header.flags & FLAG_MARK:
            self._skip_to(header.stream, header.offset, REASON_NAMES.get(header.reason, "missing"))
        elif wanted is not None and end > wanted:
            payload = cursor.payload(header)
            before = cursor.streams[header.stream].crc
            if self._verify and crc32(payload, before) != header.crc:
                self._skip_to(header.stream, end, "corrupt")
            elif not self._use(header, payload, before, wanted - header.offset):
                return False
        cursor.advance(header)
        return self._bytes_left > 0

    def reach_end(self, end: dict[str, Any] | None) -> None:
        """All records were seen: a stream that is closed further on than they reach has a last gap."""
        for stream in list(self.want):
            told = end["streams"].get(str(stream)) if end else None
            if told is not None and not told["open"]:
                self._skip_to(stream, told["offset"], "missing")

    def finish(self) -> None:
        """Put the last chunk together."""
        if len(self._pieces) > 1:
            last = self.items[-1]
            assert isinstance(last, Chunk)
            self.items[-1] = Chunk(last.stream, last.offset, last.time_ns, last.crc_before, self._crc, b"".join(self._pieces))
        self._pieces = []

    def _use(self, header: RecordHeader, payload: memoryview, crc_before: int, skip: int) -> bool:
        """Take the payload from ``skip`` on; False when not all of it went in."""
        taken = min(len(payload) - skip, self._bytes_left)
        if skip:
            crc_before = crc32(payload[:skip], crc_before)
        piece = payload[skip : skip + taken]
        whole = skip + taken == len(payload)
        crc = header.crc if whole else crc32(piece, crc_before)
        if self._can_join(header, len(piece)):
            self._pieces.append(piece)
            self._pieces_bytes += taken
        else:
            self.finish()
            offset = header.offset + skip
            self.items.append(Chunk(header.stream, offset, header.time_ns, crc_before, crc, piece))
            self._pieces = [piece]
            self._pieces_bytes = taken
        self._crc = crc
        self.want[header.stream] += taken
        self._bytes_left -= taken
        return whole

    def _can_join(self, header: RecordHeader, length: int) -> bool:
        if not self._pieces:
            return False
        last = self.items[-1]
        return (
            isinstance(last, Chunk)
            and last.stream == header.stream
            and abs(header.time_ns - last.time_ns) <= JOIN_WITHIN_NS
            and self._pieces_bytes + length <= CHUNK_BYTES_MAX
        )

    def _skip_to(self, stream: int, offset: int, reason: str) -> None:
        if offset > self.want.get(stream, offset):
            self.finish()
            self.items.append(Gap(stream, self.want[stream], offset, reason))
            self.want[stream] = offset
