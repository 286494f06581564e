"""What a subscriber that only reads sees of a broker's restart: rules R-32 and R-42 of PROTOCOL.md."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from broker.conftest import BrokerProcess
from corral_schemas import session
from corral_schemas.frames import pack
from corral_testkit.wire_peers import FakeWorker, RawClient, Subscriber, joined, repeat_until

Start = Callable[..., BrokerProcess]


def test_beacons_after_a_restart_of_the_broker_name_another_instance(start_broker: Start, short_dir: Path) -> None:
    arguments = ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    first = start_broker(*arguments)
    with FakeWorker(first.address, "vm-1") as worker, RawClient(first.address) as client:
        worker.register()
        with Subscriber(joined(first.address, client.hello().events_out), b"event/vm-1/beacon/") as subscriber:
            instances = []
            for broker in (first, None):
                if broker is None:
                    first.end(signal.SIGKILL)
                    start_broker(*arguments)
                    worker.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch="epoch-1", seq=0))])
                    worker.expect(session.PLEASE_REGISTER, session.PleaseRegister)
                    worker.register()
                repeat_until(worker.heartbeat, lambda: bool(subscriber.socket.poll(50)))
                while subscriber.socket.poll(0):
                    header, _ = subscriber.next_event()
                instances.append((header.worker, client.hello().instance))
            assert all(of_beacon == of_hello for of_beacon, of_hello in instances)
            assert instances[0] != instances[1]


def test_a_nonce_is_echoed_again_after_a_reconnect_and_to_readers_of_everything(start_broker: Start, short_dir: Path) -> None:
    arguments = ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    first = start_broker(*arguments)
    with RawClient(first.address) as client:
        endpoint = joined(first.address, client.hello().events_out)
        with Subscriber(endpoint, b"") as everything, Subscriber(endpoint, b"event/") as one:
            one.socket.subscribe(b"nonce/left")
            echo = [b"nonce/left", b"", b""]
            assert one.next() == echo
            while everything.next() != echo:
                continue
            first.end(signal.SIGKILL)
            start_broker(*arguments)
            while one.next() != echo:
                continue
