"""Events and stdio through a broker that is a process, over real sockets."""

import os
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from broker.conftest import BrokerProcess
from corral_schemas import session
from corral_schemas.events import Oom, Started
from corral_schemas.limits import STDIO_CHUNK_BYTES_MAX
from corral_schemas.queries import WaitArgs
from corral_testkit.wire_peers import FakeWorker, RawClient, Subscriber, joined, repeat_until

Start = Callable[..., BrokerProcess]
StartWorker = Callable[[str, str], "subprocess.Popen[str]"]
WAIT = WaitArgs(container="c")


def test_the_exchange_passes_a_guests_own_events_only(broker: BrokerProcess, client: RawClient) -> None:
    with FakeWorker(broker.address, "vm-1") as mine, FakeWorker(broker.address, "vm-2") as other, client.subscriber(b"event/") as sub:
        mine.register()
        other.register()
        for _ in range(2):
            assert sub.next_event()[0].kind == "guest_up"

        def publish() -> None:
            other.publish_event("oom", Oom(kills=1), "c", guest="vm-1")
            other.publish_event("oom", Oom(kills=1), "c", guest="vm-1", worker=mine.worker + "x")
            other.publish_event("started", Started(pid=1), "c")

        repeat_until(publish, lambda: bool(sub.socket.poll(50)))
        assert sub.next_event()[0].guest == "vm-2"
        told = client.info().counters
        assert told["event_unregistered"] >= 2


@pytest.mark.guarantee(12)
def test_nothing_is_missed_after_a_subscription_is_confirmed_live(broker: BrokerProcess, client: RawClient) -> None:
    endpoint = joined(broker.address, client.hello().events_out)
    with FakeWorker(broker.address, "vm-1") as worker:
        worker.register()
        with Subscriber(endpoint, b"event/vm-1/oom/") as first:
            repeat_until(lambda: worker.publish_event("oom", Oom(kills=1), "c"), lambda: bool(first.socket.poll(50)))
        for _ in range(100):
            with Subscriber(endpoint, b"event/vm-1/started/") as subscriber:
                made = worker.publish_event("started", Started(pid=1), "c")
                assert subscriber.next_event()[0] == made


def test_guests_are_told_of_stdio_subscribers_and_of_their_leaving(broker: BrokerProcess, client: RawClient) -> None:
    with FakeWorker(broker.address, "vm-1") as worker, FakeWorker(broker.address, "vm-2") as other:
        worker.register()
        other.register()
        with client.subscriber(b"stdio/vm-1/c/", stdio=True) as subscriber:
            assert worker.expect(session.HEARTBEAT_ACK, session.HeartbeatAck).stdio_prefixes == [b"stdio/vm-1/c/"]
            repeat_until(lambda: worker.publish_stdio("c", b"hello"), lambda: bool(subscriber.socket.poll(50)))
            assert subscriber.next()[2] == b"hello"
        assert worker.expect(session.HEARTBEAT_ACK, session.HeartbeatAck).stdio_prefixes == []
        assert other.heartbeat().stdio_prefixes is None


@pytest.mark.guarantee(7)
def test_a_flood_of_stdio_does_not_hold_up_commands_or_events(broker: BrokerProcess, client: RawClient) -> None:
    chunk = os.urandom(STDIO_CHUNK_BYTES_MAX)
    over = threading.Event()
    with FakeWorker(broker.address, "vm-1") as worker, client.subscriber(b"stdio/", stdio=True) as reader:
        worker.register()

        def flood() -> None:
            with FakeWorker(broker.address, "vm-1", worker=worker.worker) as flooder:
                while not over.is_set():
                    flooder.publish_stdio("c", chunk)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(50):
                reader.next()
            took_s = []
            for _ in range(100):
                started_s = time.monotonic()
                client.hello()
                took_s.append(time.monotonic() - started_s)
        finally:
            over.set()
            thread.join()
    assert sorted(took_s)[50] < 0.25
