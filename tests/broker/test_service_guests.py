"""Which connection is a guest's, in a broker that is a process: workers that are killed, stopped, doubled, and restarted brokers."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from broker.conftest import BrokerProcess
from corral_schemas import session
from corral_schemas.errors import CorralError
from corral_schemas.frames import ReplyHeader, encode_reply, pack
from corral_schemas.limits import GUEST_DOWN_S
from corral_schemas.queries import ListArgs, Nothing, WaitArgs
from corral_testkit.wire_peers import FakeWorker, RawClient, joined, repeat_until

Start = Callable[..., BrokerProcess]
StartWorker = Callable[[str, str], "subprocess.Popen[str]"]
WAIT = WaitArgs(container="c")


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


@pytest.mark.guarantee(14)
def test_a_stopped_worker_is_down_within_the_limit_and_comes_back_when_it_continues(
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
        assert {guest.guest for guest in client.guests().guests if guest.up} == set(live)


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
            assert [(guest.guest, guest.up) for guest in client.guests().guests] == [("vm-1", False)]
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
