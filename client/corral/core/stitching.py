"""One stream of a process, put together from what reads of it brought: contiguous, each byte once, checked. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from corral_schemas.checksum import crc32
from corral_schemas.errors import error
from corral_schemas.exits import StreamEnd
from corral_schemas.stdio import Chunk, Gap, ReadStdioReply, StreamName

Piece = Chunk | Gap


@dataclass(slots=True)
class Stitching:
    """How far it is. What a reply brings comes out of `hand_on` without what was handed on before, with a gap where bytes are missing."""

    name: StreamName
    at: int
    """First offset not handed on yet."""
    placed: bool
    """It is known where to begin."""
    verify: bool
    crc: int | None = None
    """Checksum of the stream up to `at`; None where it is not known (the next chunk states it)."""
    end: StreamEnd | None = None
    cut_told: bool = False
    kept: dict[int, list[Piece]] = field(default_factory=dict[int, list[Piece]])
    """Offset at which a read ahead began → what it brought."""

    @property
    def ended(self) -> bool:
        """Everything was handed on."""
        return self.end is not None and self.placed and self.at >= self.end.total

    def place(self, reply: ReadStdioReply, wanted: int) -> None:
        """Begins where the first reply does: the guest was asked to find the place."""
        if self.placed:
            return
        starts = [chunk.offset for chunk in reply.chunks if chunk.stream == self.name]
        starts += [gap.start for gap in reply.gaps if gap.stream == self.name]
        self.at = min(starts, default=reply.next.get(self.name, wanted))
        self.crc = 0 if self.at == 0 else None
        self.placed = True

    def hand_on_kept(self) -> list[Piece]:
        """What was read ahead and connects now."""
        pieces: list[Piece] = []
        while (ready := self.kept.pop(self.at, None)) is not None and ready:
            for piece in ready:
                pieces += self.hand_on(piece)
        return pieces

    def hand_on(self, piece: Piece) -> list[Piece]:
        """A piece of this stream. Raises runtime_failed where bytes do not match their checksum."""
        if isinstance(piece, Gap):
            return self._gap(piece)
        end = piece.offset + len(piece.data)
        if end <= self.at:
            return []
        pieces: list[Piece] = []
        if piece.offset > self.at:
            pieces.append(Gap(stream=self.name, start=self.at, end=piece.offset, reason="unannounced"))
            self.crc = None
        elif piece.offset < self.at:
            piece = _without_head(piece, self.at - piece.offset)
        if self.verify:
            _check(piece, self.crc)
        self.at, self.crc = end, piece.crc
        return [*pieces, piece]

    def _gap(self, gap: Gap) -> list[Piece]:
        if gap.open_ended and not self.cut_told:
            self.cut_told = True
        elif gap.end <= self.at:
            return []
        whole = msgspec.structs.replace(gap, start=self.at, end=max(self.at, gap.end))
        self.at, self.crc = whole.end, None if whole.end > whole.start else self.crc
        return [whole]

    def skipped(self, after: int) -> list[Piece]:
        """The reply was over and the next one begins there: what lies between did not come."""
        if after <= self.at:
            return []
        gap = Gap(stream=self.name, start=self.at, end=after, reason="unannounced")
        self.at, self.crc = after, None
        return [gap]

    def check_end(self) -> None:
        """Raises runtime_failed where the whole does not match the checksum at its end."""
        end = self.end
        if not self.verify or end is None or end.cut or self.crc is None:
            return
        if self.at == end.total and self.crc != end.crc:
            raise error("runtime_failed", f"{self.name} does not match its checksum at its end, byte {end.total}", stream=self.name)


def in_order(reply: ReadStdioReply) -> list[Piece]:
    """Chunks as they came, each gap before the chunk it ends at, and the rest of the gaps last."""
    gaps = sorted(reply.gaps, key=lambda gap: gap.start)
    pieces: list[Piece] = []
    for chunk in reply.chunks:
        due = [gap for gap in gaps if gap.stream == chunk.stream and gap.end <= chunk.offset]
        gaps = [gap for gap in gaps if gap not in due]
        pieces += [*due, chunk]
    return [*pieces, *gaps]


def _without_head(chunk: Chunk, count: int) -> Chunk:
    head, data = chunk.data[:count], chunk.data[count:]
    return msgspec.structs.replace(chunk, offset=chunk.offset + count, crc_before=crc32(head, chunk.crc_before), data=data)


def _check(chunk: Chunk, crc_before: int | None) -> None:
    if (crc_before is not None and chunk.crc_before != crc_before) or crc32(chunk.data, chunk.crc_before) != chunk.crc:
        raise error(
            "runtime_failed",
            f"{chunk.stream} does not match its checksum in bytes {chunk.offset} to {chunk.offset + len(chunk.data)}",
            stream=chunk.stream,
            offset=chunk.offset,
        )


def total_bytes(pieces: Iterable[Piece]) -> int:
    """Bytes of data in these pieces."""
    return sum(len(piece.data) for piece in pieces if isinstance(piece, Chunk))
