"""From runs of bytes to lines, with the time at which each line began."""

from collections.abc import Iterator
from typing import NamedTuple

LINE_BYTES_MAX = 1 << 20
"""A longer line is given in pieces of this size."""


class Line(NamedTuple):
    """A line with its line break; without one only at the end of the stream (or where it was cut)."""

    time_ns: int
    offset: int
    data: bytes


class LineSplitter:
    """One stream's lines. Feed it the chunks in order; `rest` gives what is left at the end."""

    def __init__(self) -> None:
        self._begun = b""
        self._time_ns = 0
        self._offset = 0

    def feed(self, offset: int, time_ns: int, data: bytes) -> Iterator[Line]:
        """The lines that are complete now."""
        for piece in _split_at_newlines(data):
            if not self._begun:
                self._time_ns, self._offset = time_ns, offset
            offset += len(piece)
            self._begun += piece
            if piece.endswith(b"\n") or len(self._begun) >= LINE_BYTES_MAX:
                yield from self.rest()

    def rest(self) -> Iterator[Line]:
        """The line that has begun, complete or not."""
        if self._begun:
            line, self._begun = Line(self._time_ns, self._offset, self._begun), b""
            yield line


def _split_at_newlines(data: bytes) -> list[bytes]:
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
