"""Hostile messages on every port of a broker with keys, by peers whose keys are accepted: `python tests/hostile/fuzz.py --messages N`.

Half are made at random, half are good messages with something changed in them. The broker must serve on, its memory must stay flat, and
nothing forged may reach anybody; figures are printed per port.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from corral_schemas import session
from corral_schemas.events import EventHeader, Started, StdioHeader
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_command, encode_event, encode_reply, encode_stdio, pack
from corral_schemas.ops import OPS
from corral_schemas.queries import ListArgs, Nothing
from corral_schemas.topics import event_topic, stdio_topic
from corral_testkit.wire_peers import FakeWorker, Keys, Peer
from hostile.keyed_broker import KeyedBroker

MiB = 1 << 20
CHECK_EVERY = 2_000
Frames = list[bytes]
Make = Callable[[random.Random], Frames]


def any_value(rng: random.Random, depth: int = 0) -> object:
    kinds: list[Callable[[], object]] = [
        lambda: None,
        lambda: rng.randrange(-(1 << 63), 1 << 64),
        lambda: rng.random() * 1e308,
        lambda: rng.choice(["", "g", "fuzz", "../../etc", "x" * 300, "\u0000", "\U0001f600", "*"]),
        lambda: rng.randbytes(rng.randrange(40)),
        lambda: bool(rng.randrange(2)),
    ]
    if depth < 4:
        kinds.append(lambda: [any_value(rng, depth + 1) for _ in range(rng.randrange(5))])
        kinds.append(lambda: {rng.choice(["id", "guest", "op", "v", "x", "timeout_ms"]): any_value(rng, depth + 1) for _ in range(4)})
    return rng.choice(kinds)()


def mangled(rng: random.Random, frames: Frames) -> Frames:
    """A good message with one thing wrong."""
    made = list(frames)
    at = rng.randrange(len(made))
    match rng.randrange(8):
        case 0:
            made[at] = rng.randbytes(rng.randrange(200))
        case 1:
            made[at] = made[at][: rng.randrange(len(made[at]) + 1)]
        case 2:
            made.insert(at, rng.randbytes(rng.randrange(20)))
        case 3:
            del made[at]
        case 4:
            made[at] = made[at] + rng.randbytes(rng.choice([1, 100, 20_000]))
        case 5 if made[at]:
            place = rng.randrange(len(made[at]))
            made[at] = made[at][:place] + bytes([rng.randrange(256)]) + made[at][place + 1 :]
        case 6:
            made[at] = msgspec.msgpack.encode(any_value(rng))
        case _:
            made[at] = b"\x91" * rng.choice([10, 2_000])  # arrays in arrays
    return made or [b""]


def at_random(rng: random.Random) -> Frames:
    return [rng.randbytes(rng.choice([0, 1, 5, 60, 600])) for _ in range(rng.randrange(1, 12))]


def command(rng: random.Random) -> Frames:
    header = CommandHeader(
        id=f"{rng.randrange(1 << 30)}", guest=rng.choice(["", "fuzz", "none"]), op=rng.choice([*OPS, "odd"]), timeout_ms=50
    )
    return encode_command(header, rng.choice([ListArgs(), Nothing()]))


def session_message(guest: str) -> Make:
    def make(rng: random.Random) -> Frames:
        register = session.Register(guest=rng.choice([guest, "good"]), worker="w", labels={"a": "b"}, role=rng.choice(["main", "bulk"]))
        return rng.choice(
            [
                [session.REGISTER, pack(register)],
                [session.HEARTBEAT, pack(session.Heartbeat(epoch="e", seq=rng.randrange(9)))],
                [session.GOODBYE, pack(session.Goodbye(reason="x"))],
                [session.REPLY, rng.randbytes(8), *encode_reply(ReplyHeader(id="1", guest=guest), Nothing())],
            ]
        )

    return make


def event(guest: str) -> Make:
    def make(rng: random.Random) -> Frames:
        header = EventHeader(
            guest=rng.choice([guest, "good"]), epoch="e", seq=1, prev=0, worker="w", time_ns=1, kind="started", container="c"
        )
        return encode_event(event_topic(header.guest, header.kind, "c"), header, Started(pid=1))

    return make


def stdio(guest: str) -> Make:
    def make(rng: random.Random) -> Frames:
        header = StdioHeader(
            guest=rng.choice([guest, "good"]),
            worker="w",
            container="c",
            instance="",
            process="init",
            process_instance="",
            stream="stdout",
            offset=0,
            crc=0,
            time_ns=1,
        )
        return encode_stdio(stdio_topic(header.guest, "c", "init", "stdout"), header, b"bytes")

    return make


def subscription(rng: random.Random) -> Frames:
    return [
        rng.choice([b"\x01", b"\x00", b"\x02", b""]) + rng.choice([b"stdio/", b"event/fuzz/", b"nonce/"]) + rng.randbytes(rng.randrange(60))
    ]


def fuzz_port(
    broker: KeyedBroker, keys: Keys, operator: Keys, name: str, good: Make, messages: int, seed: int, live: Callable[[], object]
) -> None:
    """Calls `live` now and then. Raises AssertionError when the broker does not serve on."""
    kind = {"clients": zmq.DEALER, "workers": zmq.DEALER, "events_out": zmq.XSUB, "stdio_out": zmq.XSUB}.get(name, zmq.PUB)
    rng = random.Random(seed)
    endpoint = broker.endpoint(name)
    asker = broker.client(operator)
    with Peer(keys=keys) as peer, peer.dial(kind, endpoint) as socket:
        rss, started_s = 0, time.monotonic()
        for number in range(messages):
            frames = at_random(rng) if number % 4 == 0 else mangled(rng, good(rng)) if number % 4 != 3 else good(rng)
            if kind == zmq.XSUB:
                frames = frames[:1]
            try:
                socket.send_multipart(frames, zmq.NOBLOCK if kind == zmq.PUB else 0)
            except zmq.Again:
                continue
            if number % CHECK_EVERY == CHECK_EVERY - 1:
                live()
                asker.call("guests", Nothing())  # also lets the broker catch up, as a PUB would drop
                while kind == zmq.DEALER and socket.poll(0):
                    socket.recv_multipart()
                if number < messages // 4:
                    rss = broker.rss_bytes()
        asker.call("guests", Nothing())
    took_s = time.monotonic() - started_s
    growth = broker.rss_bytes() - (rss or broker.rss_bytes())
    grown = f"{growth / MiB:+.1f} since the first quarter"
    print(f"{name}: {messages} messages in {took_s:.0f} s, memory {broker.rss_bytes() / MiB:.1f} MiB, {grown}")
    assert growth < 64 * MiB, f"{name}: memory grew by {growth / MiB:.0f} MiB"


def stay_up(worker: FakeWorker) -> None:
    """A heartbeat; where the machine was so busy that the broker gave the guest up, it registers again."""
    worker.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch=worker.epoch, seq=worker.seq))])
    if worker.receive(worker.main)[0] == session.PLEASE_REGISTER:
        worker.register()


def fuzz(messages: int, seed: int) -> None:
    """So many messages on each of the six ports."""
    with tempfile.TemporaryDirectory(prefix="crl") as directory, KeyedBroker(Path(directory), "--log-level", "error") as broker:
        operator, evil, good_keys = broker.several_keys(("op", "operator"), ("fuzz", "guest", "fuzz"), ("good", "guest", "good"))
        with FakeWorker(broker.address, "good", keys=good_keys) as good:
            good.register()
            subscriber = broker.subscriber(operator, b"event/good/", b"stdio/good/")
            plan: list[tuple[str, Keys, Make]] = [
                ("clients", operator, command),
                ("workers", evil, session_message("fuzz")),
                ("events_in", evil, event("fuzz")),
                ("stdio_in", evil, stdio("fuzz")),
                ("events_out", operator, subscription),
                ("stdio_out", operator, subscription),
            ]
            for name, keys, make in plan:
                fuzz_port(broker, keys, operator, name, make, messages, seed, lambda: stay_up(good))
            passed = []
            while subscriber.socket.poll(200):
                passed.append(subscriber.socket.recv_multipart()[0])
            assert all(b"/beacon/" in topic or b"/guest_" in topic for topic in passed), passed
            counters = broker.info(operator).counters
            print({name: count for name, count in sorted(counters.items()) if not name.startswith("asked")})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="on each port")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    fuzz(given.messages, given.seed)
