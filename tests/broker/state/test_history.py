"""What a broker keeps of the guests that came and went, over its own ends, and what it says of what it has not."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.conftest import BrokerProcess
from corral_broker.state import history as history_module
from corral_broker.state.history import Entry, History
from corral_broker.state.history_file import FILE_NAME, SEQ_JUMP, HistoryFile
from corral_schemas.errors import CorralError
from corral_schemas.events import BrokerStarted, EventHeader, GuestDown
from corral_schemas.frames import decode_event, pack
from corral_schemas.limits import GUEST_DOWN_S
from corral_schemas.queries import GuestsReply, InfoReply, Nothing, ReplayArgs, ReplayReply
from corral_testkit.wire_peers import FakeWorker, RawClient, repeat_until

Start = Callable[..., BrokerProcess]


def replay(client: RawClient, **args: Any) -> ReplayReply:
    reply = client.call("replay", ReplayArgs(**args))
    assert isinstance(reply, ReplayReply)
    return reply


def told(reply: ReplayReply) -> list[tuple[str, str, str]]:
    """Kind, guest, and the reason or how the broker before ended."""
    events = [decode_event([b"", *frames]) for frames in reply.events]
    return [(header.kind, header.guest, data.get("reason") or data.get("previous", "")) for header, data in events]


def come_and_go(broker: BrokerProcess, client: RawClient, name: str, why: str = "upgrade") -> None:
    before = replay(client).last_seq
    with FakeWorker(broker.address, name) as worker:
        worker.register()
        worker.goodbye(why)
    repeat_until(lambda: None, lambda: replay(client).last_seq == before + 2)


@pytest.fixture
def arguments(short_dir: Path) -> tuple[str, ...]:
    return ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))


def test_when_and_why_a_guest_was_away_is_known_after_the_broker_was_killed(start_broker: Start, arguments: tuple[str, ...]) -> None:
    broker = start_broker(*arguments)
    with RawClient(broker.address) as client:
        come_and_go(broker, client, "vm-7")
        before = replay(client)
    assert broker.end(signal.SIGKILL)[0] == -signal.SIGKILL
    broker = start_broker(*arguments)
    with RawClient(broker.address) as client:
        kept = replay(client)
        assert (kept.epoch, kept.durable) == (before.epoch, True)
        assert kept.events[: len(before.events)] == before.events
        assert told(kept) == [
            ("broker_started", "", ""),
            ("guest_up", "vm-7", ""),
            ("guest_down", "vm-7", "said goodbye: upgrade"),
            ("broker_started", "", "died"),
        ]
        known = client.call("guests", Nothing())
        assert isinstance(known, GuestsReply)
        assert [(one.guest, one.reason) for one in known.guests] == [("vm-7", "said goodbye: upgrade")]
        come_and_go(broker, client, "vm-7")
        headers = [decode_event([b"", *frames])[0] for frames in replay(client).events]
    assert [header.seq for header in headers] == list(range(1, len(headers) + 1))
    assert [header.prev for header in headers if header.kind == "guest_up"] == [0, 2]
    assert len({header.worker for header in headers}) == 2
    began = msgspec.msgpack.decode(kept.events[3][1], type=BrokerStarted)
    assert headers[2].time_ns <= began.alive_ns <= headers[3].time_ns


def test_its_own_end_in_order_is_kept_too(start_broker: Start, arguments: tuple[str, ...]) -> None:
    for _ in range(2):
        assert start_broker(*arguments).end() == (0, "")
    with RawClient(start_broker(*arguments).address) as client:
        assert [(kind, text) for kind, _, text in told(replay(client))] == [
            ("broker_started", ""),
            ("broker_stopped", ""),
            ("broker_started", "stopped"),
            ("broker_stopped", ""),
            ("broker_started", "stopped"),
        ]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_guest_that_comes_back_after_a_restart_was_not_down_and_one_that_does_not_is_told_once(
    start_broker: Start, arguments: tuple[str, ...], end: signal.Signals
) -> None:
    broker = start_broker(*arguments)
    with FakeWorker(broker.address, "vm-1") as stays, FakeWorker(broker.address, "vm-2") as leaves:
        stays.register()
        leaves.register()
        broker.end(end)
    broker = start_broker(*arguments)
    with RawClient(broker.address) as client, client.subscriber(b"event/") as subscriber, FakeWorker(broker.address, "vm-1") as back:
        begun = replay(client)
        back.register()
        assert [subscriber.next_event(GUEST_DOWN_S + 10)[0].kind for _ in range(2)] == ["guest_up", "guest_down"]
        since = told(replay(client, epoch=begun.epoch, after=begun.last_seq))
        since = [event for event in since if event != ("guest_down", "vm-1", "silent")]  # it sends no heartbeats, and is due next
        assert since == [("guest_up", "vm-1", ""), ("guest_down", "vm-2", "not heard since the broker started")]
        assert [kind for kind, _, _ in told(begun)][-1] == "broker_started"


def test_a_broker_without_a_state_directory_says_that_it_keeps_its_own_time_alone(broker: BrokerProcess, client: RawClient) -> None:
    come_and_go(broker, client, "vm-7")
    reply = replay(client)
    assert not reply.durable and len(reply.events) == 3
    info = client.call("info", Nothing())
    assert isinstance(info, InfoReply) and (info.epoch, info.seq) == (reply.epoch, reply.upto)


def test_pages_kinds_and_places_are_those_of_a_guest_s_journal(broker: BrokerProcess, client: RawClient) -> None:
    for number in range(3):
        come_and_go(broker, client, f"vm-{number}")
    whole = replay(client)
    page = replay(client, limit=2)
    paged = list(page.events)
    while page.upto < page.last_seq:
        page = replay(client, epoch=page.epoch, after=page.upto, limit=2)
        paged += page.events
    assert paged == whole.events
    downs = replay(client, kinds=["guest_down"])
    assert (len(downs.events), downs.upto) == (3, whole.last_seq)
    for wrong in ({"epoch": "another", "after": 1}, {"epoch": whole.epoch, "after": whole.last_seq + 1}):
        with pytest.raises(CorralError) as refused:
            replay(client, **wrong)
        assert refused.value.code == "cursor_too_old"


def header(seq: int, kind: str = "guest_down", guest: str = "vm-1") -> EventHeader:
    return EventHeader(guest=guest, epoch="e", seq=seq, prev=0, worker="b", time_ns=seq, kind=kind)


def add(history: History, count: int, kind: str = "guest_down") -> None:
    for _ in range(count):
        one = header(history.seq + 1, kind)
        payload = GuestDown(reason="x" * 50) if kind == "guest_down" else BrokerStarted(boot="another boot")
        history.add(one, Entry(pack(one), pack(payload)))


def test_it_is_bounded_in_count_and_bytes_in_memory_and_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "HISTORY_EVENTS_MAX", 10)
    monkeypatch.setattr("corral_broker.state.history_file.HISTORY_EVENTS_MAX", 10)
    file = HistoryFile(tmp_path)
    sizes = set()
    for _ in range(100):
        add(file.history, 1)
        sizes.add((tmp_path / FILE_NAME).stat().st_size)
    assert max(sizes) < 30 * (min(sizes))
    assert len(list(file.history.entries)) == 10
    with pytest.raises(CorralError, match="no longer kept"):
        file.history.replay(ReplayArgs(epoch=file.history.epoch, after=5))
    assert file.history.replay(ReplayArgs()).upto == 100
    file.close()
    monkeypatch.setattr(history_module, "HISTORY_BYTES_MAX", 300)
    again = HistoryFile(tmp_path)
    assert 0 < len(list(again.history.entries)) < 5 and again.history.replay(ReplayArgs()).last_seq >= 100
    again.close()


@pytest.mark.parametrize("harm", ["torn", "flipped", "behind", "rebooted"])
def test_no_seq_is_used_twice_where_the_end_of_the_file_may_be_missing(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    file = HistoryFile(tmp_path)
    add(file.history, 1, "broker_started")
    add(file.history, 3)
    file.close()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    if harm == "torn":
        content = content[:-5]
    elif harm == "flipped":
        content[-5] ^= 1
    elif harm == "behind":
        content[17:18] = b"!"
    else:
        content[36:40] = b"past"
    path.write_bytes(content)
    again = HistoryFile(tmp_path)
    assert again.history.epoch == file.history.epoch and again.previous == "died"
    assert again.history.seq == (3 if harm in ("torn", "flipped") else 4) + SEQ_JUMP
    assert "history_cut" in caplog.text
    add(again.history, 1)
    again.close()
    kept = HistoryFile(tmp_path)
    assert kept.history.seq > SEQ_JUMP and len(list(kept.history.entries)) == (4 if harm in ("torn", "flipped") else 5)
    kept.close()


def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = HistoryFile(tmp_path)
    add(file.history, 2)
    write = os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if len(data) > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, data, at)

    monkeypatch.setattr("corral_broker.state.history_file.os.pwrite", pwrite)
    monkeypatch.setattr("corral_broker.state.history_file.write_whole", lambda *_: pwrite(0, b"xx", 0))
    add(file.history, 2)
    assert (tmp_path / FILE_NAME).read_bytes()[17:18] == b"!"
    monkeypatch.undo()
    add(file.history, 1)
    file.close()
    again = HistoryFile(tmp_path)
    assert len(list(again.history.entries)) == 5
    again.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"corral-history 1 =0123456789abcdef " + 36 * b"x", b"\0" * 100])
def test_a_file_that_is_no_history_is_said_and_another_begun(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    file = HistoryFile(tmp_path)
    assert "history_unreadable" in caplog.text
    add(file.history, 1)
    file.close()
    again = HistoryFile(tmp_path)
    assert again.history.epoch == file.history.epoch
    again.close()


def test_a_second_broker_on_the_same_directory_leaves_the_first_one_s_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = HistoryFile(tmp_path), HistoryFile(tmp_path)
    assert "history_busy" in caplog.text and not second.history.durable
    add(first.history, 1)
    add(second.history, 5)
    second.close()
    first.close()
    again = HistoryFile(tmp_path)
    assert len(list(again.history.entries)) == 1
    again.close()
