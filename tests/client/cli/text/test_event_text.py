"""Events as lines, and where logs end."""

import click
import pytest

from corral import Event, EventGap, Resync
from corral.cli.text.bounds import LineBound, OffsetBound
from corral.cli.text.event_text import Wanted, line_for_people, record_of
from corral_schemas.containers import ContainerState
from corral_schemas.cursor import Place
from corral_schemas.events import EVENT_KINDS, EventHeader
from corral_schemas.stdio import Chunk, Gap


def event(kind: str = "exit", *, guest: str = "g1", container: str = "web", time_ns: int = 10**18, **data: object) -> Event:
    header = EventHeader(guest=guest, epoch="e", seq=7, prev=3, time_ns=time_ns, kind=kind, container=container, process="init")
    return Event(header, dict(data), None, {guest: Place(epoch="e", seq=7)})


def wanted(*, kinds: tuple[str, ...] = (), guests: tuple[str, ...] = (), containers: tuple[str, ...] = (), filters: tuple[str, ...] = (),
           since_ns: int = 0) -> Wanted:  # fmt: skip
    return Wanted.read(kinds, guests, containers, filters, since_ns)


def test_words_of_one_sort_widen_and_of_different_sorts_narrow() -> None:
    choice = wanted(kinds=("exit", "oom"), filters=("guest=g1", "container=web"))
    assert choice.admits(event("oom"))
    assert not choice.admits(event("created"))
    assert not choice.admits(event(guest="g2"))
    assert not choice.admits(event(container="db"))
    assert not wanted(since_ns=2 * 10**18).admits(event())
    assert wanted(containers=("g1/web",)).guests == {"g1"}


@pytest.mark.parametrize("text", ["x=1", "kind", "kind=", "=exit"])
def test_a_filter_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        wanted(filters=(text,))


def test_word_of_missing_events_is_never_filtered_out() -> None:
    choice = wanted(kinds=("exit",), guests=("g1",), containers=("db",))
    assert choice.admits(EventGap("g1", "e", 1, 2, "dropped"))
    assert choice.admits(Resync("g1", "journal lost", Place(epoch="f", seq=0)))
    assert not choice.admits(EventGap("g2", "e", 1, 2, "dropped"))


def test_a_record_has_the_promised_fields() -> None:
    record = record_of(event(exit={"type": "exited", "code": 3}))
    assert list(record) == [
        "guest", "epoch", "seq", "prev", "time_ns", "kind", "container", "process", "instance", "process_instance", "data", "cursor",
    ]  # fmt: skip
    assert record_of(EventGap("g1", "e", 1, 2, "dropped"))["kind"] == "gap"
    assert record_of(Resync("g1", "new", Place(epoch="f", seq=4)))["seq"] == 4


@pytest.mark.parametrize("kind", [*EVENT_KINDS, "of_a_later_version"])
def test_every_kind_has_a_line_even_without_the_data_expected(kind: str) -> None:
    line = line_for_people(event(kind))
    assert kind in line
    assert "\n" not in line


def test_an_exit_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    line = line_for_people(event(exit={"type": "signalled", "signal": 9, "oom_seen": True}))
    assert "\x1b" not in line
    assert line.endswith("web/init                     killed by SIGKILL (out of memory)")
    assert "events 1 to 2 are missing: dropped" in line_for_people(EventGap("g1", "e", 1, 2, "dropped"))


def chunk(data: bytes, offset: int = 0, stream: str = "stdout") -> Chunk:
    return Chunk(stream=stream, offset=offset, time_ns=1, crc_before=0, crc=0, data=data)  # type: ignore[arg-type]


def data_of(piece: Chunk | Gap) -> bytes:
    assert isinstance(piece, Chunk)
    return piece.data


def test_an_offset_bound_cuts_each_stream_at_its_offset() -> None:
    bound = OffsetBound({"stdout": 5, "stderr": 2})
    assert data_of(bound.cut(chunk(b"abc"))) == b"abc"
    assert data_of(bound.cut(chunk(b"defgh", 3))) == b"de"
    assert not bound.reached
    assert bound.cut(Gap(stream="stderr", start=0, end=4, reason="cap"))
    assert bound.reached
    assert OffsetBound({"stdout": 0}).reached


def test_a_line_bound_counts_lines_of_both_streams() -> None:
    bound = LineBound(3)
    assert data_of(bound.cut(chunk(b"a\nb"))) == b"a\nb"
    assert data_of(bound.cut(chunk(b"x\n", stream="stderr"))) == b"x\n"
    assert not bound.reached
    assert data_of(bound.cut(chunk(b"c\nd\ne\n", 3))) == b"c\n"
    assert bound.reached


def test_states_of_the_contract_are_what_ps_reads() -> None:
    assert {"id", "guest", "status", "pid", "created", "processes"} <= set(ContainerState.__struct_fields__)
