"""The synchronous client: the same answers, from any thread, and nothing left over."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import corral
from corral_schemas.events import Started
from corral_testkit.fake_broker import INSTANCE, FakeBroker
from corral_testkit.fake_guest import FakeGuest


def test_commands_output_and_events_without_await(broker: FakeBroker, guest: FakeGuest) -> None:
    with corral.Client(broker.address) as client:
        assert client.hello.instance == broker.instance
        assert [info.guest for info in client.guests()] == ["g1"]
        with client.events() as events:
            broker.do(lambda: guest.record("started", Started(pid=1)))
            event = next(events)
            assert isinstance(event, corral.Event) and event.kind == "started"
            assert events.cursor.startswith("c1.")
        broker.do(lambda: guest.write("stdout", b"one\ntwo\n").end(4))
        process = client.guest("g1").container("c", INSTANCE).init
        assert list(process.stdout.lines()) == [b"one", b"two"]
        assert b"".join(process.combined) == process.stdout.read() == b"one\ntwo\n"
        output = process.output()
        assert [piece.data for piece in output if isinstance(piece, corral.Chunk)] == [b"one\ntwo\n"]
        assert output.exit == process.wait()
        assert process.container.init.wait().code == 4


def test_many_threads_share_one_client(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.do(lambda: guest.end(5))
    with corral.Client(broker.address) as client, ThreadPoolExecutor(16) as pool:
        container = client.guest("g1").container("c", INSTANCE)
        assert {end.code for end in pool.map(lambda _: container.wait(5), range(200))} == {5}


def test_errors_come_out_as_they_are_and_the_thread_ends_with_the_client(broker: FakeBroker) -> None:
    before = set(threading.enumerate())
    client = corral.Client(broker.address)
    with client, pytest.raises(corral.RetryError, match="guest_unreachable"):
        client.guest("nobody").list()
    assert set(threading.enumerate()) == before
    with pytest.raises(corral.CorralError, match="not open"):
        client.guests()


def test_a_client_without_a_broker_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with pytest.raises(corral.RetryError), corral.Client("ipc:///tmp/corral-nobody-there", connect_timeout_s=0.1):
        pass
    assert set(threading.enumerate()) == before


def test_closing_the_stream_ends_a_thread_that_iterates(broker: FakeBroker, guest: FakeGuest) -> None:
    with corral.Client(broker.address) as client:
        events = client.events()
        seen: list[object] = []
        with events:
            reader = threading.Thread(target=lambda: seen.extend(events))
            reader.start()
            broker.do(lambda: guest.record("started", Started(pid=1)))
            client.guests()
        reader.join(5)
        assert not reader.is_alive()
