"""The spool's reader: any retained byte from any offset, while the writer writes, with every gap named."""

from __future__ import annotations

from pathlib import Path

from corral_worker.shim.spool import tail
from corral_worker.shim.spool.cursor import SegmentCursor, SegmentGoneError, find_segment, next_segment
from corral_worker.shim.spool.end_file import END_FILE_NAME, read_end
from corral_worker.shim.spool.format import segment_numbers
from corral_worker.shim.spool.items import Chunk, Gap, ReadInProgress
from corral_worker.shim.spool.tail import repair_tail

__all__ = ["Chunk", "Gap", "SpoolReader", "repair_tail"]


class SpoolReader:
    """Reads the spool in ``directory``. Safe beside the writer. A read that goes on where the last ended is O(1)."""

    def __init__(self, directory: Path, *, verify: bool = False) -> None:
        """With ``verify``, a record whose bytes do not match its CRC-32 becomes a Gap with reason ``corrupt``."""
        self._directory = directory
        self._verify = verify
        self._cursor: SegmentCursor | None = None
        self._next_offsets: dict[int, int] = {}

    def read(self, offsets: dict[int, int], max_bytes: int) -> tuple[list[Chunk | Gap], dict[int, int]]:
        """What there is from ``offsets`` on, at most ``max_bytes`` bytes of it.

        Args:
            offsets: stream -> first byte wanted; only these streams are read.
            max_bytes: limit over all streams together, at least 1.

        Returns:
            Chunks (of at most 256 KiB) and gaps in the order they were written, and the offsets to go on from.
            No items: nothing more is there yet. Raises OSError.
        """
        while True:
            read = ReadInProgress(offsets, max_bytes, verify=self._verify)
            end = read_end(self._directory / END_FILE_NAME)  # before the data: what it calls closed is all there
            gone = False
            try:
                if self._place_cursor(offsets, read) is None or self._walk(read):
                    read.reach_end(end)
            except SegmentGoneError:
                self._drop_cursor()
                gone = True
            read.finish()
            if read.items or not gone:
                break
        self._next_offsets = dict(read.want)
        return read.items, read.want

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Per stream the first offset that is retained, and the offset behind the last byte. Raises OSError."""
        return tail.bounds(self._directory)

    def offset_of_last_lines(self, streams: set[int], count: int) -> dict[int, int]:
        """Where to read from to get the last ``count`` lines of these streams taken together. Raises OSError."""
        return tail.offset_of_last_lines(self._directory, streams, count)

    def offset_at_time(self, time_ns: int) -> dict[int, int]:
        """Per stream where to read from to get what was written at ``time_ns`` or later. Raises OSError."""
        return tail.offset_at_time(self._directory, time_ns)

    def close(self) -> None:
        """Let go of the open segment; a later read opens it again."""
        self._drop_cursor()

    def _place_cursor(self, offsets: dict[int, int], read: ReadInProgress) -> SegmentCursor | None:
        if self._cursor is not None and offsets == self._next_offsets:
            self._cursor.begin_read()
            return self._cursor
        self._drop_cursor()
        self._cursor = find_segment(self._directory, offsets)
        if self._cursor is not None:
            read.enter_segment(self._cursor, "disk_full" if self._cursor.number == 1 else "cap")
        return self._cursor

    def _walk(self, read: ReadInProgress) -> bool:
        """Take records until the read is full; True when the end of the data was reached."""
        while True:
            cursor = self._cursor
            assert cursor is not None
            header = cursor.peek()
            if header is not None:
                if not read.take(cursor, header):
                    return False
                continue
            following = next_segment(self._directory, cursor.number)
            if following is None:
                return True
            if self._wrote_more(cursor, following):
                following.close()
                continue
            reason = self._reason_between(cursor, following)
            self._drop_cursor()
            self._cursor = following
            read.enter_segment(following, reason)

    def _wrote_more(self, cursor: SegmentCursor, following: SegmentCursor) -> bool:
        """Something was written to the segment between our look at its end and the birth of the next."""
        try:
            return cursor.peek() is not None
        except SegmentGoneError:
            following.close()
            raise

    def _reason_between(self, cursor: SegmentCursor, following: SegmentCursor) -> str:
        """Why bytes wanted would be missing between the end of one segment and the start of the next."""
        if not cursor.ends_cleanly():
            return "corrupt"
        if following.number == cursor.number + 1:
            return "disk_full"
        return "cap" if segment_numbers(self._directory)[:1] == [following.number] else "segment_missing"

    def _drop_cursor(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
