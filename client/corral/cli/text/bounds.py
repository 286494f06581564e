"""Where `corral logs` ends when it does not follow, whatever the process goes on to write meanwhile."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from corral_schemas.stdio import Chunk, Gap

Piece = Chunk | Gap


class Bound(Protocol):
    """Takes the pieces as they come, and cuts off what lies beyond."""

    @property
    def reached(self) -> bool:
        """Nothing that comes now is wanted any more."""

    def cut(self, piece: Piece) -> Piece:
        """The piece, or its part that is wanted (which may be empty)."""


class OffsetBound:
    """The given offset of each stream."""

    def __init__(self, upto: Mapping[str, int]) -> None:
        self._upto = upto
        self._left = {stream for stream, offset in upto.items() if offset}

    @property
    def reached(self) -> bool:
        return not self._left

    def cut(self, piece: Piece) -> Piece:
        upto = self._upto.get(piece.stream, 0)
        if (piece.end if isinstance(piece, Gap) else piece.offset + len(piece.data)) >= upto:
            self._left.discard(piece.stream)
        if isinstance(piece, Gap):
            return piece
        return msgspec.structs.replace(piece, data=piece.data[: max(0, upto - piece.offset)])


class LineBound:
    """A number of lines, both streams together."""

    def __init__(self, lines: int) -> None:
        self._left = lines

    @property
    def reached(self) -> bool:
        return self._left <= 0

    def cut(self, piece: Piece) -> Piece:
        if isinstance(piece, Gap):
            return piece
        wanted = 0
        while self._left > 0 and wanted < len(piece.data):
            line_end = piece.data.find(b"\n", wanted)
            if line_end < 0:
                wanted = len(piece.data)
            else:
                wanted, self._left = line_end + 1, self._left - 1
        return msgspec.structs.replace(piece, data=piece.data[:wanted])
