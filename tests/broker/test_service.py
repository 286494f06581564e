"""The broker as a process, over real sockets, with peers that speak the real protocol."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from broker.conftest import BrokerProcess
from corral_broker.addresses import parse_bind
from corral_broker.service import Service
from corral_broker.sockets import CLIENT_REPLIES_HWM
from corral_schemas import session
from corral_schemas.errors import CorralError
from corral_schemas.events import Oom, Started
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_reply, pack
from corral_schemas.limits import FRAME_BYTES_MAX, GUEST_DOWN_S, STDIO_CHUNK_BYTES_MAX
from corral_schemas.queries import GuestsReply, InfoReply, ListArgs, Nothing, WaitArgs
from corral_testkit.wire_peers import FakeWorker, RawClient, Subscriber, joined, repeat_until

Start = Callable[..., BrokerProcess]
StartWorker = Callable[[str, str], "subprocess.Popen[str]"]
WAIT = WaitArgs(container="c")


def guests(client: RawClient) -> GuestsReply:
    reply = client.call("guests", Nothing())
    assert isinstance(reply, GuestsReply)
    return reply


def info(client: RawClient) -> InfoReply:
    reply = client.call("info", Nothing())
    assert isinstance(reply, InfoReply)
    return reply


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

        repeat_until(ask_more, lambda: "client_replies_dropped_full" in info(client).counters, timeout_s=30.0)
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
        told = info(client)
    assert told.kind == "broker"
    assert told.counters["registrations"] == 1
    assert told.limits["IN_FLIGHT_PER_GUEST_MAX"] == 256
    assert told.about["address"] == broker.address
    assert told.about["now"]["guests_up"] == 1


def test_killing_a_worker_fails_what_was_sent_to_it_and_frees_its_place_at_once(
    broker: BrokerProcess, client: RawClient, start_worker: StartWorker
) -> None:
    with client.subscriber(b"event/") as subscriber, FakeWorker(broker.address, "vm-1") as silent:
        silent.register()
        assert subscriber.next_event()[0].kind == "guest_up"
        client.send("wait", WAIT, "vm-1", timeout_ms=60_000)
        silent.command()
        killed_s = time.monotonic()
        silent.close()
        _, outcome = client.reply("wait")
        assert time.monotonic() - killed_s < 0.5
        assert isinstance(outcome, CorralError)
        assert (outcome.code, outcome.details["sent"]) == ("guest_unreachable", True)
        assert subscriber.next_event()[0].kind == "guest_down"
        for _ in range(3):
            process = start_worker(broker.address, "vm-1")
            assert subscriber.next_event()[0].kind == "guest_up"
            killed_s = time.monotonic()
            process.kill()
            assert subscriber.next_event()[0].kind == "guest_down"
            assert time.monotonic() - killed_s < 0.5


def test_a_stopped_worker_is_down_within_the_limit_and_comes_back_when_it_goes_on(
    broker: BrokerProcess, client: RawClient, start_worker: StartWorker
) -> None:
    process = start_worker(broker.address, "vm-1")
    with client.subscriber(b"event/vm-1/") as subscriber:
        process.send_signal(signal.SIGSTOP)
        client.send("wait", WAIT, "vm-1", timeout_ms=60_000)
        header, _ = subscriber.next_event(GUEST_DOWN_S + 2)
        assert header.kind == "guest_down"
        assert isinstance(client.reply("wait")[1], CorralError)
        process.send_signal(signal.SIGCONT)


def test_a_living_worker_keeps_its_guest_against_another_with_the_same_name(broker: BrokerProcess, start_worker: StartWorker) -> None:
    start_worker(broker.address, "vm-1")
    with FakeWorker(broker.address, "vm-1") as other:
        other.send_register()
        assert other.expect(session.REFUSED, session.Refused).code == "guest_busy"


def test_a_connection_that_hangs_loses_its_guest_to_a_new_one(broker: BrokerProcess) -> None:
    with FakeWorker(broker.address, "vm-1") as hung, FakeWorker(broker.address, "vm-1") as fresh:
        hung.register()
        fresh.register()
        hung.expect(session.PLEASE_REGISTER, session.PleaseRegister)


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
        told = info(client).counters
        assert told["event_unregistered"] >= 2


def test_whoever_is_told_that_a_subscription_is_live_misses_nothing(broker: BrokerProcess, client: RawClient) -> None:
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


def test_connections_that_come_and_go_quickly_are_told_apart_though_descriptors_are_reused(
    broker: BrokerProcess, client: RawClient
) -> None:
    endpoint = joined(broker.address, client.hello().workers)
    live: dict[str, zmq.Socket[bytes]] = {}
    with RawClient(broker.address) as peers, client.subscriber(b"event/") as subscriber:
        up: set[str] = set()
        for number in range(300):
            name = f"vm-{number % 7}"
            if name in live:
                live.pop(name).close(0)
            if number % 3:
                live[name] = peers.dial(zmq.DEALER, endpoint)
                live[name].send_multipart([session.REGISTER, pack(session.Register(guest=name, worker=f"w{number}"))])
        for one in live.values():
            assert peers.receive(one)[0] == session.REGISTERED
        while up != set(live):
            header, _ = subscriber.next_event()
            (up.add if header.kind == "guest_up" else up.discard)(header.guest)
        assert {guest.guest for guest in guests(client).guests if guest.up} == set(live)


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
        repeat_until(lambda: None, lambda: all(info(client).counters.get(reason, 0) >= 12 for reason in reasons))


def test_an_oversized_frame_costs_its_sender_the_connection_and_nobody_else(broker: BrokerProcess, client: RawClient) -> None:
    with FakeWorker(broker.address, "vm-1") as worker, FakeWorker(broker.address, "vm-2") as hostile:
        worker.register()
        hostile.register()
        hostile.main.send_multipart([session.HEARTBEAT, bytes(2 * FRAME_BYTES_MAX + 1)])
        repeat_until(lambda: None, lambda: [guest.up for guest in guests(client).guests] == [True, False])


def test_a_restarted_broker_knows_its_guests_holds_their_commands_and_states_their_places(start_broker: Start, short_dir: Path) -> None:
    arguments = ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    first = start_broker(*arguments)
    with FakeWorker(first.address, "vm-1") as worker, RawClient(first.address) as client:
        worker.register(seq=5)
        worker.heartbeat(seq=8)
        assert first.end(signal.SIGTERM)[0] == 0
        second = start_broker(*arguments)
        with RawClient(second.address) as late:
            late.send("list", ListArgs(), "vm-1")
            assert [(guest.guest, guest.up) for guest in guests(client).guests] == [("vm-1", False)]
            worker.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch="epoch-1", seq=8))])
            worker.expect(session.PLEASE_REGISTER, session.PleaseRegister)
            place = worker.register(seq=2).seen
            assert place is not None
            assert (place.epoch, place.seq) == ("epoch-1", 8)
            held = worker.command()
            assert held.header.op == "list"
            worker.main.send_multipart([session.REPLY, held.ref, *encode_reply(ReplyHeader(id=held.header.id, guest="vm-1"), Nothing())])
            assert late.receive(late.socket)


def test_a_killed_broker_has_the_places_of_a_second_ago(start_broker: Start, short_dir: Path) -> None:
    arguments = ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    first = start_broker(*arguments)
    with FakeWorker(first.address, "vm-1") as worker:
        worker.register(seq=5)
        worker.heartbeat(seq=8)
        file = short_dir / "state" / "last-seen.json"
        repeat_until(lambda: None, lambda: file.exists() and '"epoch-1",8' in file.read_text())
        first.end(signal.SIGKILL)
        start_broker(*arguments)
        worker.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch="epoch-1", seq=8))])
        worker.expect(session.PLEASE_REGISTER, session.PleaseRegister)
        place = worker.register(seq=8).seen
        assert place is not None
        assert place.seq == 8


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
        repeat_until(lambda: None, lambda: not any(guest.up for guest in guests(client).guests))
