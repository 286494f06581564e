"""The synchronous client: the same answers, from any thread, and nothing left over."""

import math
import os
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


def test_a_call_in_a_forked_child_is_refused_at_once(broker: FakeBroker) -> None:
    with corral.Client(broker.address) as client:
        client.guests()
        child = os.fork()
        if not child:
            status = 1
            try:
                client.guests()
            except corral.InvalidError as why:
                status = 0 if "open one here" in str(why) else 2
            finally:
                os._exit(status)  # nothing of the test's own is to run twice
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.guests() == []


def test_threads_that_ask_while_another_closes_the_client_all_get_an_error(broker: FakeBroker) -> None:
    for _ in range(10):
        client = corral.Client(broker.address)
        client.__enter__()

        def ask_until_refused(client: corral.Client = client) -> str:
            while True:
                try:
                    client.guests()
                except corral.CorralError as why:
                    return why.code

        with ThreadPoolExecutor(8) as pool:
            refusals = [pool.submit(ask_until_refused) for _ in range(8)]
            while broker.seen("guests") == []:
                client.guests()
            client.close()
            assert {refusal.result(20) for refusal in refusals} == {"guest_unreachable"}


def test_a_timeout_that_is_no_time_is_refused_and_leaves_the_client_as_it_was(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.do(lambda: guest.end(5))
    for odd_s in (math.inf, math.nan, 1e300):
        with pytest.raises(corral.InvalidError, match="timeout_s is"):
            corral.Client(broker.address, timeout_s=odd_s)
    with corral.Client(broker.address) as client:
        container = client.guest("g1").container("c", INSTANCE)
        for odd_s in (math.inf, math.nan, 1e300):
            with pytest.raises(corral.InvalidError, match="timeout_s is"):
                container.wait(odd_s)
            with pytest.raises(corral.InvalidError, match="timeout_s is"):
                list(client.map("all", lambda one: one.list(), timeout_s=odd_s))
        assert container.wait(5).code == 5
