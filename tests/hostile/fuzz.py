"""Hostile messages on every port of a broker with keys, and on a worker: `python tests/hostile/fuzz.py --messages N`.

The peers' keys are accepted, so that their messages get past the handshake; half of the messages are made at random or have something
changed. Broker and worker must serve on, their memory must stay flat, and nothing forged may reach anybody; figures are printed per port.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from corral_schemas import session
from corral_schemas.frames import pack
from corral_schemas.keyfiles import ACCEPTED, AcceptedKey, accepted_file_name, text_of
from corral_schemas.queries import Nothing
from corral_schemas.topics import NONCE
from corral_testkit.wire_peers import FakeWorker, Keys, Peer, RawClient, repeat_until
from hostile import fuzz_worker
from hostile.garbage import Make, command, event_message, mixed, session_message, stdio_message, subscription
from hostile.keyed_broker import KeyedBroker

MiB = 1 << 20
BATCH = 5_000
"""So many messages are sent before the broker is given the time to take them: nothing is to be lost on the way to its rules."""
GROWTH_BYTES_MAX = 64 * MiB
RATE_PER_S = 10_000_000
"""The keys' own limits are out of the way: they would turn most messages down before anything else looks at them."""


class Port(NamedTuple):
    """One of the broker's sockets, and what is thrown at it."""

    name: str
    kind: int
    """Of the hostile peer's socket."""
    keys: Keys
    good: Make


def fuzz_port(broker: KeyedBroker, port: Port, operator: Keys, messages: int, seed: int, live: Callable[[], None]) -> None:
    """Calls `live` after each batch. Raises AssertionError when the broker does not serve on, or did not get all that was sent."""
    rng = random.Random(seed)
    asker = broker.client(operator)
    endpoint = broker.endpoint(port.name)
    started_s, rss, sent, tenths = time.monotonic(), 0, 0, [broker.rss_bytes()]
    while sent < messages:
        size = min(BATCH, messages - sent)
        throw = throw_at_clients if port.name == "clients" else throw_at_publisher if port.kind == zmq.XSUB else throw_at_receiver
        throw(broker, port, endpoint, asker, rng, size)
        sent += size
        live()
        if sent <= messages // 4 or not rss:
            rss = broker.rss_bytes()
        if sent * 10 // messages >= len(tenths):
            tenths.append(broker.rss_bytes())
    asker.call("guests", Nothing())
    report(port.name, sent, time.monotonic() - started_s, rss, broker.rss_bytes(), tenths)


def throw_at_receiver(broker: KeyedBroker, port: Port, endpoint: str, asker: RawClient, rng: random.Random, count: int) -> None:
    """To a ROUTER or an XSUB. Returns when the broker has taken every message."""
    counter = f"taken_{port.name}"
    with Peer(keys=port.keys) as peer, peer.dial(port.kind, endpoint, send_hwm=0) as socket:
        if port.kind == zmq.PUB:  # what it sends before its connection is through is lost
            before = counters(asker).get(counter, 0)
            repeat_until(lambda: socket.send_multipart(port.good(rng)), lambda: counters(asker).get(counter, 0) > before)
        goal = settled(asker, counter) + count
        for number in range(count):
            socket.send_multipart(mixed(rng, number, port.good))
            if port.kind == zmq.DEALER and number % 500 == 0:
                while socket.poll(0):
                    socket.recv_multipart()
        repeat_until(lambda: None, lambda: counters(asker).get(counter, 0) >= goal, timeout_s=60.0)


def throw_at_clients(broker: KeyedBroker, port: Port, endpoint: str, asker: RawClient, rng: random.Random, count: int) -> None:
    """To the clients' ROUTER. Returns when the broker has answered what was sent last."""
    with RawClient(endpoint, 60.0, port.keys) as client:
        client.socket.sndhwm = 0
        for number in range(count):
            client.socket.send_multipart(mixed(rng, number, port.good))
            if number % 500 == 0:
                while client.socket.poll(0):
                    client.socket.recv_multipart()
        last = client.send("guests", Nothing())
        while last.encode() not in client.receive(client.socket)[0]:
            continue


def throw_at_publisher(broker: KeyedBroker, port: Port, endpoint: str, asker: RawClient, rng: random.Random, count: int) -> None:
    """To an XPUB. The echo of a nonce says that the broker has taken what came before it; the connection takes its subscriptions along."""
    with Peer(keys=port.keys) as peer, peer.dial(zmq.XSUB, endpoint, send_hwm=0) as socket:
        for number in range(count):
            socket.send_multipart(mixed_subscription(rng, number, port.good))
        nonce = NONCE + rng.randbytes(8).hex().encode()
        socket.send(b"\x01" + nonce)
        end_s = time.monotonic() + 60
        while socket.poll(10_000) and time.monotonic() < end_s:
            if socket.recv_multipart()[0] == nonce:
                return
    raise AssertionError(f"{port.name}: the broker has not echoed after {count} messages")


def mixed_subscription(rng: random.Random, number: int, good: Make) -> list[bytes]:
    """Not so long that libzmq closes the connection: what follows would get nowhere."""
    return [frame[:400] for frame in mixed(rng, number, good)]


def counters(asker: RawClient) -> dict[str, int]:
    info = asker.call("info", Nothing())
    return dict(info.counters)  # type: ignore[attr-defined]


def settled(asker: RawClient, counter: str) -> int:
    """A counter once it stands still."""
    seen = [counters(asker).get(counter, 0)]

    def is_still() -> bool:
        time.sleep(0.02)
        seen.append(counters(asker).get(counter, 0))
        return seen[-1] == seen[-2]

    repeat_until(lambda: None, is_still)
    return seen[-1]


def report(name: str, messages: int, took_s: float, rss_before: int, rss_after: int, tenths: list[int]) -> None:
    """`tenths`: memory at the beginning and after each tenth of the messages. Raises AssertionError when memory has grown."""
    growth = rss_after - rss_before
    by_tenths = " ".join(f"{rss / MiB:.1f}" for rss in tenths)
    grown = f"memory {rss_after / MiB:.1f} MiB, {growth / MiB:+.1f} since the first quarter; by tenths {by_tenths}"
    print(f"{name}: {messages} messages in {took_s:.0f} s, {grown}", flush=True)
    assert growth < GROWTH_BYTES_MAX, f"{name}: memory grew by {growth / MiB:.0f} MiB"


def stay_up(worker: FakeWorker) -> None:
    """Reads all that has come, as a worker does, and sends a heartbeat; where the broker has given the guest up, it registers again."""
    while worker.main.poll(0):
        worker.main.recv_multipart()
    worker.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch=worker.epoch, seq=worker.seq))])
    if worker.receive(worker.main)[0] == session.PLEASE_REGISTER:
        worker.register()


def unlimited(broker: KeyedBroker, name: str, role: str, guest: str = "") -> Keys:
    keys = broker.new_keys()
    key = AcceptedKey(name=name, public=keys.public, role=role, guest=guest, rate_per_s=RATE_PER_S)
    (broker.directory / ACCEPTED / accepted_file_name(name, keys.public)).write_text(text_of(key))
    broker.until_known(keys)
    return keys


def fuzz_broker(messages: int, seed: int, names: list[str]) -> None:
    """So many messages on each of these ports."""
    with tempfile.TemporaryDirectory(prefix="crl") as directory, KeyedBroker(Path(directory), "--log-level", "error") as broker:
        operator, evil = unlimited(broker, "op", "operator"), unlimited(broker, "fuzz", "guest", "fuzz")
        good_keys = broker.keys("good", "guest", "good")
        ports = [
            Port("clients", zmq.DEALER, operator, command),
            Port("workers", zmq.DEALER, evil, session_message("fuzz")),
            Port("events_in", zmq.PUB, evil, event_message("fuzz")),
            Port("stdio_in", zmq.PUB, evil, stdio_message("fuzz")),
            Port("events_out", zmq.XSUB, operator, subscription),
            Port("stdio_out", zmq.XSUB, operator, subscription),
        ]
        with FakeWorker(broker.address, "good", keys=good_keys) as good:
            good.register()
            subscriber = broker.subscriber(operator, b"event/good/", b"stdio/good/")
            for port in ports:
                if port.name in names:
                    fuzz_port(broker, port, operator, messages, seed, lambda: stay_up(good))
            passed = []
            while subscriber.socket.poll(200):
                passed.append(subscriber.socket.recv_multipart()[0])
            assert all(b"/beacon/" in topic or b"/guest_" in topic for topic in passed), passed
        found = counters(broker.client(operator))
        print({name: count for name, count in sorted(found.items()) if not name.startswith("asked")}, flush=True)


BROKER_PORTS = ["clients", "workers", "events_in", "stdio_in", "events_out", "stdio_out"]
WORKER = "worker"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="on each port")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ports", nargs="+", choices=[*BROKER_PORTS, WORKER], default=[*BROKER_PORTS, WORKER])
    given = parser.parse_args()
    if set(given.ports) & set(BROKER_PORTS):
        fuzz_broker(given.messages, given.seed, given.ports)
    if WORKER in given.ports:
        fuzz_worker.fuzz(given.messages, given.seed, report)
