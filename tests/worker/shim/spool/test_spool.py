"""The spool: any writes, any cap, any reader: bytes as written, or a gap that says which are missing."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_testkit.shim_driver import read_all
from corral_worker.shim.spool.end_file import END_FILE_NAME, SLOT_BYTES, EndFile, read_end
from corral_worker.shim.spool.format import segment_numbers
from corral_worker.shim.spool.reader import Chunk, Gap, SpoolReader, repair_tail
from corral_worker.shim.spool.writer import Policy, SpoolWriter

MIB = 1024 * 1024
SMALL_CAP = 64 * 1024
WRITES = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 30_000), st.integers(0, 30_000_000)), min_size=1, max_size=60)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="corral-spool-") as name:
        yield Path(name)


def noise(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


class Written:
    """A spool, and beside it what it should hold."""

    def __init__(self, directory: Path, *, cap_bytes: int, policy: Policy = "drop") -> None:
        self.gaps: list[tuple[int, int, int, str]] = []
        self.bytes = {1: bytearray(), 2: bytearray()}
        self.writer = SpoolWriter(directory, cap_bytes=cap_bytes, policy=policy, on_gap=lambda *gap: self.gaps.append(gap))
        self.time_ns = 1_000_000_000

    def append(self, stream: int, data: bytes, later_ns: int = 0) -> int:
        self.time_ns += later_ns
        accepted = self.writer.append(stream, data, self.time_ns)
        self.bytes[stream] += data[:accepted]
        return accepted


def check_items(items: list[Chunk | Gap], written: Written, offsets: dict[int, int]) -> dict[int, int]:
    """Every item goes on where its stream stood, and has the bytes and checksums of the original."""
    at = dict(offsets)
    for item in items:
        if isinstance(item, Gap):
            assert item.start == at[item.stream] < item.end
            at[item.stream] = item.end
            continue
        assert item.offset == at[item.stream]
        assert 0 < len(item.data) <= 256 * 1024
        original = bytes(written.bytes[item.stream])
        assert bytes(item.data) == original[item.offset : item.end]
        assert item.crc_before == zlib.crc32(original[: item.offset])
        assert item.crc == zlib.crc32(original[: item.end])
        at[item.stream] = item.end
    return at


@settings(max_examples=150, deadline=None)
@given(
    writes=WRITES,
    cap_bytes=st.sampled_from([0, SMALL_CAP, 200_000, 8 * MIB]),
    wanted=st.sampled_from([(1,), (2,), (1, 2)]),
    max_bytes=st.sampled_from([1000, 7919, 65_536, MIB]),
    data=st.data(),
)
def test_any_writes_are_read_from_any_offset_with_any_window(
    writes: list[tuple[int, int, int]], cap_bytes: int, wanted: tuple[int, ...], max_bytes: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-spool-") as name:
        written = Written(Path(name), cap_bytes=cap_bytes)
        for index, (stream, length, later_ns) in enumerate(writes):
            assert written.append(stream, noise(length, index), later_ns) == length
        start = {stream: data.draw(st.integers(0, len(written.bytes[stream]))) for stream in wanted}
        reader = SpoolReader(Path(name), verify=True)
        offsets, total = dict(start), 0
        while True:
            items, following = reader.read(offsets, max_bytes)
            assert check_items(items, written, offsets) == following
            taken = sum(len(item.data) for item in items if isinstance(item, Chunk))
            assert taken <= max_bytes
            total += taken + sum(item.end - item.start for item in items if isinstance(item, Gap))
            if not items:
                break
            offsets = following
        assert offsets == {stream: len(written.bytes[stream]) for stream in wanted}
        assert total == sum(len(written.bytes[stream]) - start[stream] for stream in wanted)
        reader.close()
        written.writer.close()
        for stream, (first, end) in SpoolReader(Path(name)).bounds().items():
            assert end == len(written.bytes[stream])
            assert first == max((gap[2] for gap in written.gaps if gap[0] == stream), default=0)


@settings(max_examples=100, deadline=None)
@given(writes=WRITES, cut=st.integers(0, 200_000), zeroed=st.integers(0, 50_000))
def test_a_torn_or_zeroed_tail_ends_the_data_and_can_be_cut_off(writes: list[tuple[int, int, int]], cut: int, zeroed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-spool-") as name:
        directory = Path(name)
        written = Written(directory, cap_bytes=8 * MIB)
        for index, (stream, length, later_ns) in enumerate(writes):
            written.append(stream, noise(length, index), later_ns)
        written.writer.close()
        last = sorted(directory.glob("*.spool"))[-1:]
        for path in last:
            size = path.stat().st_size
            os.truncate(path, max(0, size - cut))
            os.truncate(path, path.stat().st_size + zeroed)
        reader = SpoolReader(directory, verify=True)
        items, _ = reader.read({1: 0, 2: 0}, 64 * MIB)
        check_items(items, written, {1: 0, 2: 0})
        reader.close()
        repair_tail(directory)
        again, _ = SpoolReader(directory, verify=True).read({1: 0, 2: 0}, 64 * MIB)
        assert [bytes(item.data) for item in again if isinstance(item, Chunk)] == [
            bytes(item.data) for item in items if isinstance(item, Chunk)
        ]
        assert repair_tail(directory) == 0


def test_at_the_cap_the_oldest_goes_and_bytes_and_gaps_make_the_total(directory: Path) -> None:
    written = Written(directory, cap_bytes=MIB)
    for index in range(100):
        written.append(1 + index % 2, noise(MIB // 4, index))
    for stream in (1, 2):
        data, gaps = read_all(directory, stream)
        assert len(data) + sum(gap.end - gap.start for gap in gaps) == len(written.bytes[stream])
        assert data == written.bytes[stream][-len(data) :]
        assert [gap.reason for gap in gaps] == ["cap"]
        assert sum(end - start for told, start, end, _ in written.gaps if told == stream) == gaps[0].end
    assert sum(path.stat().st_size for path in directory.glob("0*.spool")) <= MIB + 4096
    assert len(list(directory.glob("spare-*"))) <= 2
    written.writer.close()


def test_block_takes_no_more_than_the_cap_until_the_consumer_has_it(directory: Path) -> None:
    written = Written(directory, cap_bytes=MIB, policy="block")
    data = noise(4 * MIB, 7)
    done = 0
    consumed = 0
    while done < len(data):
        room = written.writer.room_bytes()
        accepted = written.append(1, data[done : done + 300_000])
        done += accepted
        assert accepted or room < 300_000
        assert sum(path.stat().st_size for path in directory.glob("0*.spool")) <= MIB + 4096
        if accepted == 0:
            assert read_all(directory, start=consumed) == (data[consumed:done], [])
            consumed = done
            written.writer.consumed({1: consumed})
    assert written.gaps == []
    written.writer.close()


def test_a_reader_beside_a_fast_writer_sees_only_true_bytes(directory: Path) -> None:
    """Small segments, dropped and reused at once: the hardest place to read from."""
    written = Written(directory, cap_bytes=SMALL_CAP)
    data = noise(16 * MIB, 3)
    finished = threading.Event()

    def write() -> None:
        position = 0
        sizes = random.Random(5)
        while position < len(data):
            length = sizes.choice((40, 3000, 20_000, 60_000))
            written.writer.append(1, data[position : position + length], position)
            position += length
        finished.set()

    thread = threading.Thread(target=write)
    thread.start()
    reader = SpoolReader(directory)
    offsets = {1: 0}
    covered = 0
    while True:
        was_finished = finished.is_set()
        items, offsets = reader.read(offsets, 100_000)
        for item in items:
            if isinstance(item, Chunk):
                assert bytes(item.data) == data[item.offset : item.end]
                covered += len(item.data)
            else:
                assert item.reason == "cap"
                covered += item.end - item.start
        if was_finished and not items:
            break
    thread.join()
    assert covered == len(data)
    reader.close()
    written.writer.close()


def test_a_segment_that_went_missing_is_a_gap(directory: Path) -> None:
    written = Written(directory, cap_bytes=SMALL_CAP * 4)
    written.append(1, noise(150_000, 1))
    written.writer.close()
    numbers = segment_numbers(directory)
    (directory / f"{numbers[1]:06d}.spool").unlink()
    data, gaps = read_all(directory)
    assert [gap.reason for gap in gaps] == ["segment_missing"]
    assert len(data) + gaps[0].end - gaps[0].start == 150_000
    assert data == written.bytes[1][: gaps[0].start] + written.bytes[1][gaps[0].end :]


@pytest.mark.guarantee(5)
@pytest.mark.parametrize("place", [0, 70, 10_000, 40_000])
def test_a_damaged_byte_is_a_gap_and_what_follows_is_still_checked(directory: Path, place: int) -> None:
    written = Written(directory, cap_bytes=SMALL_CAP * 4)
    for index in range(30):
        written.append(1, noise(5000, index))
    written.writer.close()
    path = directory / "000001.spool"
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    data, gaps = read_all(directory)
    assert gaps
    assert len(data) + sum(gap.end - gap.start for gap in gaps) == 150_000
    assert data.endswith(bytes(written.bytes[1][-5000:]))


def test_the_end_file_says_how_far_a_stream_went_when_its_last_bytes_are_missing(directory: Path) -> None:
    written = Written(directory, cap_bytes=MIB)
    written.append(1, b"here")
    end = EndFile(directory)
    end.write({"streams": {"1": {"offset": 10, "crc": 5, "open": False}}, "exit": None})
    items, offsets = SpoolReader(directory).read({1: 0}, 100)
    assert items[1:] == [Gap(1, 4, 10, "missing")]
    assert offsets == {1: 10}
    assert SpoolReader(directory).bounds()[1] == (0, 10)
    end.close()
    written.writer.close()


@given(contents=st.lists(st.integers(0, 2**64), min_size=1, max_size=5), damage=st.integers(0, 2 * SLOT_BYTES - 1))
@settings(deadline=None)
def test_a_torn_write_of_the_end_file_leaves_an_older_end(contents: list[int], damage: int) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-end-") as name:
        end = EndFile(Path(name))
        path = Path(name) / END_FILE_NAME
        assert read_end(path) is None
        for number in contents:
            end.write({"streams": {}, "exit": {"number": number}})
            now = read_end(path)
            assert now is not None
            assert now["exit"]["number"] == number
        end.close()
        content = bytearray(path.read_bytes())
        assert len(content) == 2 * SLOT_BYTES
        content[damage] ^= 1
        path.write_bytes(content)
        torn = read_end(path)
        older = list(contents[-2:])
        assert torn is None or torn["exit"]["number"] in older
        assert torn is not None or len(contents) == 1


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([b"a\n", b"bb", b"\n", b"c\nd", b"e\n\nf\n"])), max_size=40),
    count=st.integers(0, 12),
)
def test_the_last_lines_of_one_stream_are_those_that_tail_gives(pieces: list[tuple[int, bytes]], count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-spool-") as name:
        written = Written(Path(name), cap_bytes=MIB)
        for stream, data in pieces:
            written.append(stream, data)
        written.writer.close()
        for stream in (1, 2):
            lines = bytes(written.bytes[stream]).splitlines(keepends=True)
            start = SpoolReader(Path(name)).offset_of_last_lines({stream}, count)[stream]
            assert bytes(written.bytes[stream][start:]) == b"".join(lines[-count:] if count else [])
        both = SpoolReader(Path(name)).offset_of_last_lines({1, 2}, count)
        told = sum(len(bytes(written.bytes[stream][both[stream] :]).splitlines()) for stream in (1, 2))
        there = sum(len(bytes(written.bytes[stream]).splitlines()) for stream in (1, 2))
        assert told == min(count, there)


def test_the_last_lines_of_both_streams_are_the_newest_also_where_a_stream_begins_with_one(directory: Path) -> None:
    written = Written(directory, cap_bytes=MIB)
    for stream, data in ((2, b"old\nless old\nnew\n"), (1, b"newer\nnewest\n")):
        written.append(stream, data)
    written.writer.close()
    assert SpoolReader(directory).offset_of_last_lines({1, 2}, 3) == {1: 0, 2: len(b"old\nless old\n")}


def test_a_time_leads_to_what_was_written_from_then_on(directory: Path) -> None:
    written = Written(directory, cap_bytes=SMALL_CAP * 4)
    marks = []
    for index in range(40):
        marks.append((written.time_ns + 1000, {stream: len(written.bytes[stream]) for stream in (1, 2)}))
        written.append(1 + index % 2, noise(4000, index), later_ns=1000)
    written.writer.close()
    reader = SpoolReader(directory)
    for time_ns, offsets in marks:
        assert reader.offset_at_time(time_ns) == offsets
    assert reader.offset_at_time(written.time_ns + 1) == {1: 80_000, 2: 80_000}


def test_an_absent_spool_reads_as_empty(directory: Path) -> None:
    reader = SpoolReader(directory / "nothing")
    assert reader.read({1: 0, 2: 0}, 100) == ([], {1: 0, 2: 0})
    assert reader.bounds() == {1: (0, 0), 2: (0, 0)}
    assert reader.offset_of_last_lines({1, 2}, 5) == {1: 0, 2: 0}
    assert repair_tail(directory / "nothing") == 0
