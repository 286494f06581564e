"""Reading output by offset, against a model spool that answers as oddly as a worker may."""

import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.core.pull import AHEAD_MAX, READ_BYTES, Pull, Read
from corral.core.stitching import Piece
from corral_schemas.errors import CorralError
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.limits import STDIO_CHUNK_BYTES_MAX
from corral_schemas.stdio import Chunk, Gap, ReadStdioReply, StreamName

EXIT = Exit(type="exited", code=0)


class Spool:
    """Streams, of which the part before `kept` is gone. `most` bounds one reply."""

    def __init__(self, streams: dict[StreamName, bytes], kept: dict[StreamName, int] | None = None, chunk: int = 1000, most: int = 1 << 62):
        self.streams, self.kept, self.chunk, self.most = streams, kept or {}, chunk, most

    def answer(self, read: Read, *, ended: bool = True) -> ReadStdioReply:
        if read.measuring:
            return ReadStdioReply(process_instance="", next={name: len(self.streams[name]) for name in read.wants})
        room = min(read.max_bytes, self.most)
        after = dict(read.wants)
        chunks: list[Chunk] = []
        gaps: list[Gap] = []
        for name, offset in read.wants.items():
            kept = self.kept.get(name, 0)
            if offset < kept:
                gaps.append(Gap(stream=name, start=offset, end=kept, reason="cap"))
                after[name] = kept
            while room and after[name] < len(self.streams[name]):
                data = self.streams[name][after[name] : after[name] + min(self.chunk, room)]
                before = zlib.crc32(self.streams[name][: after[name]])
                chunks.append(Chunk(stream=name, offset=after[name], time_ns=1, crc_before=before, crc=zlib.crc32(data, before), data=data))
                after[name] += len(data)
                room -= len(data)
        ends = {name: end_of(self.streams[name]) for name in read.wants} if ended else {}
        return ReadStdioReply(
            process_instance="",
            chunks=chunks,
            gaps=gaps,
            next={str(name): offset for name, offset in after.items()},
            ends={str(name): end for name, end in ends.items()},
            exit=EXIT if ended else None,
        )


def end_of(data: bytes) -> StreamEnd:
    return StreamEnd(state="closed", total=len(data), crc=zlib.crc32(data))


def run(pull: Pull, spool: Spool, pick: Callable[[list[Read]], int] = lambda reads: 0) -> list[Piece]:
    """Answers reads, in the order that `pick` chooses, until it is finished."""
    pieces: list[Piece] = []
    open_reads: list[Read] = []
    for _ in range(10_000):
        pull.settle()
        open_reads += pull.reads()
        assert len(open_reads) <= AHEAD_MAX + 1
        if pull.finished:
            return pieces
        read = open_reads.pop(pick(open_reads) % len(open_reads))
        pieces += pull.on_reply(read, spool.answer(read), 0.001)
    raise AssertionError("it never finished")


def bytes_of(pieces: list[Piece], stream: StreamName) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, Chunk) and piece.stream == stream)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 6 * READ_BYTES), st.integers(0, 3000)),
    gone=st.integers(0, 5000),
    most=st.sampled_from([1 << 62, READ_BYTES, READ_BYTES - 1, 700_000]),
    picks=st.lists(st.integers(0, 7), min_size=1, max_size=20),
    follow=st.booleans(),
)
def test_bytes_and_gaps_are_contiguous_and_complete_in_whatever_order_replies_come(
    sizes: tuple[int, int], gone: int, most: int, picks: list[int], follow: bool
) -> None:
    streams: dict[StreamName, bytes] = {"stdout": b"abcdefg" * (sizes[0] // 7), "stderr": b"xyz" * (sizes[1] // 3)}
    kept: dict[StreamName, int] = {"stdout": min(gone, len(streams["stdout"]))}
    pull = Pull(stdout=0, stderr=0, follow=follow)
    turn = iter(range(1 << 30))
    pieces = run(pull, Spool(streams, kept, STDIO_CHUNK_BYTES_MAX, most), lambda reads: picks[next(turn) % len(picks)])
    at: dict[str, int] = {"stdout": 0, "stderr": 0}
    for piece in pieces:
        start = piece.start if isinstance(piece, Gap) else piece.offset
        assert start == at[piece.stream]
        at[piece.stream] = piece.end if isinstance(piece, Gap) else piece.offset + len(piece.data)
    assert at == {name: len(data) for name, data in streams.items()} == pull.next
    assert bytes_of(pieces, "stdout") == streams["stdout"][kept["stdout"] :]
    assert bytes_of(pieces, "stderr") == streams["stderr"]
    assert set(pull.ends) == {"stdout", "stderr"}


def test_a_reader_far_behind_has_several_reads_under_way_at_once() -> None:
    spool = Spool({"stdout": bytes(6 * READ_BYTES)}, chunk=STDIO_CHUNK_BYTES_MAX)
    pull = Pull(stdout=0, stderr=None)
    (first,) = pull.reads()
    pull.on_reply(first, spool.answer(first, ended=False), 0.001)
    ahead = pull.reads()
    assert [read.wants["stdout"] for read in ahead] == [READ_BYTES * number for number in (1, 2, 3, 4)]
    assert pull.reads() == []


def test_a_named_consumer_never_reads_ahead_of_what_it_has_taken() -> None:
    spool = Spool({"stdout": bytes(6 * READ_BYTES)}, chunk=STDIO_CHUNK_BYTES_MAX)
    pull = Pull(stdout=0, stderr=None, eager=False)
    (first,) = pull.reads()
    pull.on_reply(first, spool.answer(first, ended=False), 0.001)
    assert len(pull.reads()) == 1


def test_a_flipped_bit_is_an_error_and_not_output() -> None:
    spool = Spool({"stdout": b"a" * 100})
    pull = Pull(stdout=0, stderr=None)
    (read,) = pull.reads()
    reply = spool.answer(read)
    bad = Chunk(stream="stdout", offset=0, time_ns=1, crc_before=0, crc=reply.chunks[0].crc, data=b"a" * 99 + b"b")
    with pytest.raises(CorralError, match="checksum"):
        pull.on_reply(read, ReadStdioReply(process_instance="", chunks=[bad], next={"stdout": 100}), 0.001)


def test_bytes_after_a_gap_are_verified_too() -> None:
    spool = Spool({"stdout": b"a" * 5000}, {"stdout": 1500})
    pull = Pull(stdout=0, stderr=None)
    (read,) = pull.reads()
    reply = spool.answer(read)
    broken = [*reply.chunks[:1], Chunk(stream="stdout", offset=2500, time_ns=1, crc_before=9, crc=9, data=b"a")]
    with pytest.raises(CorralError, match="checksum"):
        pull.on_reply(read, ReadStdioReply(process_instance="", chunks=broken, gaps=reply.gaps, next={}), 0.001)


def test_bytes_passed_over_in_silence_become_a_gap() -> None:
    pull = Pull(stdout=0, stderr=None)
    (read,) = pull.reads()
    (gap,) = pull.on_reply(read, ReadStdioReply(process_instance="", next={"stdout": 70}), 0.001)
    assert gap == Gap(stream="stdout", start=0, end=70, reason="unannounced")


def test_a_worker_that_answers_at_once_with_nothing_is_asked_ever_more_slowly() -> None:
    pull = Pull(stdout=0, stderr=None)
    pauses = []
    for _ in range(9):
        (read,) = pull.reads()
        pull.on_reply(read, ReadStdioReply(process_instance="", next={"stdout": 0}), 0.001)
        pauses.append(pull.pause_s)
    assert pauses[:3] == [0.04, 0.08, 0.16] and pauses[-1] == 1.0
    (read,) = pull.reads()
    pull.on_reply(read, ReadStdioReply(process_instance="", next={"stdout": 0}), 50.0)
    assert pull.pause_s == 0.0


def test_streams_that_have_ended_are_not_asked_for_again_and_only_the_exit_is_awaited() -> None:
    pull = Pull(stdout=0, stderr=0)
    (read,) = pull.reads()
    pull.on_reply(read, ReadStdioReply(process_instance="", next={"stdout": 0, "stderr": 0}, ends={"stdout": end_of(b"")}), 0.1)
    (read,) = pull.reads()
    assert set(read.wants) == {"stderr"}
    pull.on_reply(read, ReadStdioReply(process_instance="", next={"stderr": 0}, ends={"stderr": end_of(b"")}), 0.1)
    assert pull.wants_exit and not pull.finished and pull.reads() == []
    pull.on_exit(EXIT)
    assert pull.finished


def test_a_stream_left_open_at_the_exit_is_followed_to_its_own_end() -> None:
    pull = Pull(stdout=0, stderr=None)
    (read,) = pull.reads()
    held = Exit(type="exited", code=0, streams={"stdout": StreamEnd(state="open", total=0, crc=0)})
    pull.on_reply(read, ReadStdioReply(process_instance="", next={"stdout": 0}, exit=held), 0.1)
    assert not pull.finished
    pieces = run(pull, Spool({"stdout": b"later"}))
    assert bytes_of(pieces, "stdout") == b"later"


def test_without_follow_a_stream_that_grows_faster_than_it_is_read_still_comes_to_an_end() -> None:
    spool = Spool({"stdout": b"y" * 5000})
    pull = Pull(stdout=0, stderr=None, follow=False)
    count = 0
    while not pull.finished:
        count += 1
        (read, *_) = pull.reads()
        pull.on_reply(read, spool.answer(read, ended=False), 0.001)
        spool.streams["stdout"] += b"y" * 5000
    assert (count, pull.next) == (3, {"stdout": 15_000})


def test_asking_for_no_stream_is_refused() -> None:
    with pytest.raises(CorralError, match="no stream"):
        Pull(stdout=None, stderr=None)
