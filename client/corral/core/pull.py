"""Reading the output of a process by offset: what to read next, and what of it can be handed on. No I/O.

One read at a time asks for all wanted streams and waits for news: simple, exact, and in the order in which the worker saw the bytes. Where
one stream alone fills whole reads, its reader is behind its end: then up to AHEAD_MAX reads of it are under way at once, each from where
the one before will end if that is full. A reply that does not connect to what was handed on is kept until it does, and dropped (and read
again) if it never will.
"""

from dataclasses import dataclass

from corral.core.stitching import Piece, Stitching, in_order
from corral_schemas.errors import error
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.limits import LONG_POLL_S_MAX, STDIO_CHUNK_BYTES_MAX
from corral_schemas.stdio import ReadStdioReply, StreamName

READ_BYTES = 8 * STDIO_CHUNK_BYTES_MAX
"""Most bytes asked for by one read."""
AHEAD_MAX = 4
"""Reads under way at once while behind."""
MISSES_MAX = 2
"""Bursts of reads ahead that may miss before no more are tried."""
IDLE_FIRST_S, IDLE_MAX_S = 0.02, 1.0


@dataclass(frozen=True, slots=True)
class Read:
    """A read to send now."""

    number: int
    wants: dict[StreamName, int]
    max_bytes: int = READ_BYTES
    wait_ms: int = 0
    ahead: bool = False
    placing: bool = False
    """The first read of all, which finds out where to begin (tail_lines, since_ns)."""
    measuring: bool = False
    """Finds out where the streams end now (no lines before the end), for a reader that does not follow."""


class Pull:
    """The state of one reader. `reads` says what to send; `on_reply` takes a reply and gives what can be handed on."""

    def __init__(
        self,
        *,
        stdout: int | None,
        stderr: int | None,
        follow: bool = True,
        placing: bool = False,
        verify: bool = True,
        eager: bool = True,
        pinned: bool = True,
    ) -> None:
        """eager: read ahead; a reader that acknowledges what it has read must not. pinned: it is known which process it is; otherwise the
        first read waits for nothing, so that its answer tells at once."""
        wanted: dict[StreamName, int | None] = {"stdout": stdout, "stderr": stderr}
        self._streams: dict[StreamName, Stitching] = {
            name: Stitching(name, offset, placed=not placing, verify=verify, crc=0 if offset == 0 and not placing else None)
            for name, offset in wanted.items()
            if offset is not None
        }
        if not self._streams:
            raise error("bad_request", "output of no stream was asked for: give an offset of stdout or of stderr")
        self._follow, self._eager = follow, eager
        self._under_way: dict[int, Read] = {}
        self._numbers = 0
        self._burst: StreamName | None = None  # the stream that is read ahead
        self._ahead_at = 0  # where the next read ahead begins
        self._misses = 0
        self._idle = 0
        self._begun, self._pinned = False, pinned
        self._upto: dict[str, int] | None = None  # not following: where the streams ended when it began
        self._dry = False  # not following, and a read of everything brought nothing
        self.exit: Exit | None = None

    @property
    def next(self) -> dict[str, int]:
        """Stream → first offset not handed on yet."""
        return {name: stream.at for name, stream in self._streams.items()}

    @property
    def ends(self) -> dict[str, StreamEnd]:
        """Streams that were handed on to their end."""
        return {name: stream.end for name, stream in self._streams.items() if stream.ended and stream.end is not None}

    @property
    def drained(self) -> bool:
        """Every wanted stream was handed on to its end."""
        return all(stream.ended for stream in self._streams.values())

    @property
    def finished(self) -> bool:
        if self._follow:
            return self.drained and self.exit is not None
        return self.drained or self._dry or self._reached

    @property
    def _reached(self) -> bool:
        upto = self._upto
        return upto is not None and all(stream.ended or stream.at >= upto.get(name, 0) for name, stream in self._streams.items())

    @property
    def wants_exit(self) -> bool:
        """All bytes are here, only the exit is not known: wait for it instead of reading."""
        return self._follow and self.drained and self.exit is None

    @property
    def pause_s(self) -> float:
        """How long to hold back the next read, because the last ones brought nothing though they were free to wait."""
        return min(IDLE_FIRST_S * 2**self._idle, IDLE_MAX_S) if self._idle else 0.0

    def reads(self) -> list[Read]:
        """What to send now; empty while enough is under way."""
        if self.finished or self.drained:
            return []
        if not self._follow and self._begun and self._upto is None:
            return [] if self._under_way else [self._read(dict.fromkeys(self._streams, 0), measuring=True)]
        if self._burst is None:
            if self._under_way:
                return []
            placing = not all(stream.placed for stream in self._streams.values())
            wants = {name: stream.at for name, stream in self._streams.items() if not stream.ended}
            waits = self._follow and not placing and (self._begun or self._pinned)
            wait_ms = int(LONG_POLL_S_MAX * 1000) if waits else 0
            return [self._read(wants, wait_ms=wait_ms, placing=placing)]
        reads: list[Read] = []
        others = {name: stream.at for name, stream in self._streams.items() if name != self._burst and not stream.ended}
        if others and all(read.ahead for read in self._under_way.values()):
            reads.append(self._read(others))
        while sum(read.ahead for read in self._under_way.values()) < AHEAD_MAX:
            reads.append(self._read({self._burst: self._ahead_at}, ahead=True))
            self._ahead_at += READ_BYTES
        return reads

    def on_reply(self, read: Read, reply: ReadStdioReply, took_s: float) -> list[Piece]:
        """Takes the reply of a read of `reads`. Raises runtime_failed where bytes do not match their checksum."""
        del self._under_way[read.number]
        news = self._note_ends(reply)
        if read.measuring:
            self._upto = dict(reply.next)
            return []
        self._begun = True
        pieces: list[Piece] = []
        for name, wanted in read.wants.items():
            self._streams[name].place(reply, wanted)
        if read.ahead:
            ((name, wanted),) = read.wants.items()
            self._streams[name].kept[wanted] = [piece for piece in in_order(reply) if piece.stream == name]
            pieces += self._streams[name].hand_on_kept()
        else:
            for piece in in_order(reply):
                if (stream := self._streams.get(piece.stream)) is not None:
                    pieces += stream.hand_on(piece)
            for name in read.wants:
                pieces += self._streams[name].skipped(reply.next.get(name, 0))
        for stream in self._streams.values():
            stream.check_end()
        self._steer(read, reply, bool(pieces))
        quick = took_s * 1000 < read.wait_ms / 2
        self._idle = self._idle + 1 if quick and not pieces and not news else 0
        return pieces

    def on_exit(self, end: Exit) -> None:
        """The exit, as `wait` gave it."""
        self.exit = end

    def _read(
        self, wants: dict[StreamName, int], *, wait_ms: int = 0, ahead: bool = False, placing: bool = False, measuring: bool = False
    ) -> Read:
        self._numbers += 1
        max_bytes = 1 if measuring else READ_BYTES
        read = Read(self._numbers, wants, max_bytes, wait_ms, ahead=ahead, placing=placing, measuring=measuring)
        self._under_way[read.number] = read
        return read

    def _note_ends(self, reply: ReadStdioReply) -> bool:
        news = False
        if reply.exit is not None and self.exit is None:
            self.exit, news = reply.exit, True
        known = {**(self.exit.streams if self.exit is not None else {}), **reply.ends}
        for name, stream in self._streams.items():
            end = known.get(name)
            if stream.end is None and end is not None and end.state == "closed":
                stream.end, news = end, True
        return news

    def _steer(self, read: Read, reply: ReadStdioReply, moved: bool) -> None:
        """Begins or ends reading ahead."""
        sizes = dict.fromkeys(read.wants, 0)
        for chunk in reply.chunks:
            if chunk.stream in sizes:
                sizes[chunk.stream] += len(chunk.data)
        if self._burst is None:
            if not read.placing and not self._under_way:
                self._dry = self._upto is not None and not moved
                full = [name for name, size in sizes.items() if size >= read.max_bytes]
                if self._eager and self._misses < MISSES_MAX and len(full) == 1:
                    self._burst, self._ahead_at = full[0], self._streams[full[0]].at
            return
        if not read.ahead or sizes[self._burst] >= read.max_bytes:
            return
        self._burst = None

    def settle(self) -> None:
        """Call before `reads`: what was read ahead and can connect to nothing under way any more is dropped."""
        if self._burst is None and not self._under_way:
            for stream in self._streams.values():
                self._misses += any(stream.kept.values())  # a read in the middle came short: this worker's reads cannot be predicted
                stream.kept.clear()
