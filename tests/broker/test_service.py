"""The broker as a process, over real sockets, with peers that speak the real protocol: hello, commands, what is malformed."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from broker.conftest import BrokerProcess
from corral_broker.net.sockets import CLIENT_REPLIES_HWM
from corral_broker.service import Service
from corral_broker.state.addresses import parse_bind
from corral_schemas import session
from corral_schemas.errors import CorralError
from corral_schemas.events import Started
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_reply, pack
from corral_schemas.limits import FRAME_BYTES_MAX
from corral_schemas.queries import ListArgs, Nothing, WaitArgs
from corral_testkit.wire_peers import FakeWorker, RawClient, joined, repeat_until

Start = Callable[..., BrokerProcess]
StartWorker = Callable[[str, str], "subprocess.Popen[str]"]
WAIT = WaitArgs(container="c")


def test_hello_tells_suffixes_on_ipc(client: RawClient) -> None:
    hello = client.hello()
    assert (hello.workers, hello.events_in, hello.events_out, hello.stdio_in, hello.stdio_out) == (".w", ".ei", ".eo", ".si", ".so")
    assert (hello.protocol, hello.heartbeat_ms) == (1, 5_000)


def test_replies_that_a_client_does_not_read_are_dropped_and_counted_in_the_end(client: RawClient) -> None:
    with RawClient(client.address) as deaf:
        deaf.socket.sndhwm = 0
        sent = 0

        def ask_more() -> None:
            nonlocal sent
            for _ in range(2_000):
                deaf.send("info", Nothing())
            sent += 2_000

        repeat_until(ask_more, lambda: "client_replies_dropped_full" in client.info().counters, timeout_s=30.0)
    assert sent >= CLIENT_REPLIES_HWM, "so many are kept for it"
    client.call("guests", Nothing())


def test_over_tcp_hello_tells_ports_and_everything_works(start_broker: Start) -> None:
    broker = start_broker("--bind", "tcp://127.0.0.1:0", "--insecure")
    with RawClient(broker.address) as client, FakeWorker(broker.address, "vm-1") as worker:
        assert all(int(place) for place in (worker.hello.workers, worker.hello.events_in, worker.hello.stdio_out))
        worker.register()
        with client.subscriber(b"event/vm-1/started/") as subscriber:
            worker.seq = 1
            published = []
            repeat_until(
                lambda: published.append(worker.publish_event("started", Started(pid=1), "c")), lambda: bool(subscriber.socket.poll(50))
            )
            assert subscriber.next_event()[0] in published
        client.send("list", ListArgs(), "vm-1")
        worker.answer(worker.command(), CorralError("runtime_failed", "x"))
        assert isinstance(client.reply("list")[1], CorralError)


def test_given_a_port_the_six_sockets_take_it_and_the_five_after_it(start_broker: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    broker = start_broker("--bind", f"tcp://127.0.0.1:{port}", "--insecure", "--advertise", "localhost")
    assert broker.address == f"tcp://localhost:{port}"
    with RawClient(f"tcp://127.0.0.1:{port}") as client:
        hello = client.hello()
    places = [hello.workers, hello.events_in, hello.events_out, hello.stdio_in, hello.stdio_out]
    assert places == [f"tcp://localhost:{port + number}" for number in range(1, 6)]


def test_a_command_and_its_reply_go_through_whatever_their_size(broker: BrokerProcess, client: RawClient) -> None:
    with FakeWorker(broker.address, "vm-1") as worker:
        worker.register()
        for size in (0, 1, 40_000, 4 << 20, FRAME_BYTES_MAX):
            header = pack(CommandHeader(id=f"r{size}", guest="vm-1", op="list", timeout_ms=9_000))
            client.socket.send_multipart([header, os.urandom(size)])
            kind, ref, header_there, args = worker.receive(worker.main)
            assert (kind, header_there, len(args)) == (session.COMMAND, header, size)
            reply = [pack(ReplyHeader(id=f"r{size}", guest="vm-1")), args]
            worker.main.send_multipart([session.REPLY, ref, *reply])
            assert client.receive(client.socket) == reply


def test_heartbeats_that_come_one_upon_another_are_taken_together_and_all_acknowledged(broker: BrokerProcess, client: RawClient) -> None:
    def wakes() -> int:
        return int(Path(f"/proc/{broker.process.pid}/status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    with FakeWorker(broker.address, "vm-1") as worker:
        worker.register()
        before = wakes()
        for _ in range(300):
            worker.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch=worker.epoch, seq=worker.seq))])
            time.sleep(0.001)  # as thousands of guests would: this is what is tested
        for _ in range(300):
            worker.expect(session.HEARTBEAT_ACK, session.HeartbeatAck)
        assert wakes() - before < 150
        client.send("list", ListArgs(), "vm-1")
        worker.answer(worker.command(), CorralError("runtime_failed", "x"))
        assert isinstance(client.reply("list")[1], CorralError)


@pytest.mark.guarantee(14)
def test_an_unknown_guest_is_answered_within_50_ms(client: RawClient) -> None:
    client.hello()
    took_s = []
    for _ in range(20):
        started_s = time.monotonic()
        with pytest.raises(CorralError, match="guest_unreachable"):
            client.call("list", ListArgs(), "nobody")
        took_s.append(time.monotonic() - started_s)
    assert sorted(took_s)[10] < 0.05


def test_info_shows_counters_limits_and_the_address(broker: BrokerProcess, client: RawClient) -> None:
    with FakeWorker(broker.address, "vm-1") as worker:
        worker.register()
        told = client.info()
    assert told.kind == "broker"
    assert told.counters["registrations"] == 1
    assert told.limits["IN_FLIGHT_PER_GUEST_MAX"] == 256
    assert told.about["address"] == broker.address
    assert told.about["now"]["guests_up"] == 1


def test_in_process_it_serves_until_it_is_stopped_from_another_thread(short_dir: Path) -> None:
    service = Service(parse_bind(f"ipc://{short_dir}/b"))
    thread = threading.Thread(target=service.run)
    thread.start()
    with RawClient(service.address) as one:
        one.hello()
        service.stop()
        thread.join(5)
    assert not thread.is_alive()
    service.stop()
    assert list(short_dir.iterdir()) == []


HOSTILE: list[list[bytes]] = [
    [b""],
    [b"\xc1", b"\xc1"],
    [b"x"] * 50,
    [session.REGISTER],
    [session.REGISTER, b"\x81\xa5guest\xa1\xff"],
    [session.REPLY, b"", b"", b""],
    [os.urandom(100), bytes(100_000)],
    [bytes(100_000), b""],
    [bytes(100_000), bytes(100_000), bytes(100_000)],
    [b"event/vm-1/started/c/", bytes(100_000), bytes(100_000)],
    [b"\x01nonce/" + b"x" * 500],
    [b"\x91" * 20_000, b"\x91" * 20_000],
]


def test_malformed_messages_to_any_socket_leave_the_broker_serving(broker: BrokerProcess, client: RawClient) -> None:
    hello = client.hello()
    with FakeWorker(broker.address, "vm-1") as worker, FakeWorker(broker.address, "vm-2") as hostile:
        worker.register()
        hostile.register()
        sockets = [
            hostile.main,
            hostile.dial(zmq.DEALER, broker.address),
            hostile.dial(zmq.DEALER, joined(broker.address, hello.workers)),
            hostile.dial(zmq.XPUB, joined(broker.address, hello.events_in)),
            hostile.dial(zmq.XPUB, joined(broker.address, hello.stdio_in)),
            hostile.dial(zmq.XSUB, joined(broker.address, hello.events_out)),
            hostile.dial(zmq.XSUB, joined(broker.address, hello.stdio_out)),
            hostile.dial(zmq.PUSH, broker.address),
        ]
        for one in sockets[3:5]:
            assert one.poll(10_000)
        for _ in range(3):
            for one in sockets[:-1]:
                for frames in HOSTILE:
                    one.send_multipart(frames)
        client.send("list", ListArgs(), "vm-1")
        worker.answer(worker.command(), Nothing())
        assert client.receive(client.socket)
        reasons = ["command_malformed", "session_malformed", "event_malformed", "stdio_malformed", "subscription_malformed"]
        repeat_until(lambda: None, lambda: all(client.info().counters.get(reason, 0) >= 12 for reason in reasons))


def test_an_oversized_frame_costs_its_sender_the_connection_and_nobody_else(broker: BrokerProcess, client: RawClient) -> None:
    with FakeWorker(broker.address, "vm-1") as worker, FakeWorker(broker.address, "vm-2") as hostile:
        worker.register()
        hostile.register()
        hostile.main.send_multipart([session.HEARTBEAT, bytes(2 * FRAME_BYTES_MAX + 1)])
        repeat_until(lambda: None, lambda: [guest.up for guest in client.guests().guests] == [True, False])


def test_two_hundred_guests_at_once_are_all_reached(broker: BrokerProcess, client: RawClient) -> None:
    endpoint = joined(broker.address, client.hello().workers)
    with RawClient(broker.address) as peers:
        sessions = [peers.dial(zmq.DEALER, endpoint) for _ in range(200)]
        for number, one in enumerate(sessions):
            one.send_multipart([session.REGISTER, pack(session.Register(guest=f"vm-{number}", worker="w"))])
        for one in sessions:
            assert peers.receive(one)[0] == session.REGISTERED
        for number in range(200):
            client.send("list", ListArgs(), f"vm-{number}", id=f"vm-{number}")
        for number, one in enumerate(sessions):
            _, ref, _, _ = peers.receive(one)
            one.send_multipart([session.REPLY, ref, *encode_reply(ReplyHeader(id=f"vm-{number}", guest=f"vm-{number}"), Nothing())])
        assert {client.reply("kill")[0].guest for _ in range(200)} == {f"vm-{number}" for number in range(200)}
        for one in sessions:
            one.close(0)
        repeat_until(lambda: None, lambda: not any(guest.up for guest in client.guests().guests))
