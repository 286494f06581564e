"""A broker that is wholly in a test's hand: it speaks the client protocol over real sockets and answers what the test tells it to."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import zmq

from corral_schemas.base import Message
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError, error
from corral_schemas.events import EventHeader
from corral_schemas.frames import CommandHeader, ReplyHeader, decode_args, decode_command_header, encode_event, encode_reply
from corral_schemas.queries import GuestInfo, GuestsReply, HelloReply, InfoReply
from corral_schemas.topics import NONCE, event_topic

T = TypeVar("T")
INSTANCE = "0" * 26


@dataclass(frozen=True)
class Call:
    """One command as it arrived. `copy`: how many of its id had come before."""

    identity: bytes
    header: CommandHeader
    args: Message
    copy: int


Outcome = Message | CorralError | None
"""What a handler gives: the reply, an error, or None for silence (FakeBroker.answer may follow)."""
Handler = Callable[[Call], Outcome]


class FakeBroker:
    """ROUTER on PATH and XPUB on PATH.eo, in a thread of its own. Handlers run in that thread; `do` runs anything there."""

    def __init__(self, directory: Path, name: str = "b", heartbeat_ms: int = 5_000) -> None:
        self.path = directory / name
        self.address = f"ipc://{self.path}"
        self.instance = (name + INSTANCE)[:26]
        self.heartbeat_ms = heartbeat_ms
        self.guests: dict[str, GuestInfo] = {}
        self.handlers: dict[str, Handler] = {"hello": self._hello, "guests": self._guests, "info": self._info}
        self.guest_handlers: dict[tuple[str, str], Handler] = {}  # (guest, op), looked at first
        self.ticks: list[Callable[[], None]] = []  # called about every 10 ms
        self.calls: list[Call] = []
        self.echo = True
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._seq = 0

    def __enter__(self) -> "FakeBroker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._context.destroy(linger=0)

    def start(self) -> None:
        """Binds and serves."""
        self._ending.clear()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="fake-broker")
        self._thread.start()
        assert ready.wait(5)

    def stop(self) -> None:
        """Closes its sockets, as a killed broker does; `start` brings it back at the same address."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5)
            assert not self._thread.is_alive()
            self._thread = None

    def do(self, work: Callable[[], T]) -> T:
        """Runs it in the broker's thread."""
        done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put((work(), None))
            except BaseException as why:  # noqa: BLE001 - handed to the caller
                done.put((None, why))

        self._work.put(run)
        value, failure = done.get(timeout=5)
        if failure is not None:
            raise failure
        return value  # type: ignore[return-value]

    def seen(self, op: str) -> list[Call]:
        return [call for call in list(self.calls) if call.header.op == op]

    def wait_for(self, what: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Returns when `what` holds in the broker's thread."""
        met = threading.Event()

        def look() -> None:
            if what():
                met.set()

        self.do(lambda: self.ticks.append(look))
        assert met.wait(timeout_s), "what was waited for did not come"
        self.do(lambda: self.ticks.remove(look))

    def answer(self, call: Call, outcome: Message | CorralError) -> None:
        """Sends a reply; only in the broker's thread."""
        header = ReplyHeader(id=call.header.id, guest=call.header.guest, epoch=self.epoch_of(call.header.guest))
        self.router.send_multipart([call.identity, *encode_reply(header, outcome)])

    def publish(self, header: EventHeader, payload: Message) -> None:
        """Publishes an event; only in the broker's thread."""
        topic = event_topic(header.guest, header.kind, header.container, header.process)
        self.xpub.send_multipart(encode_event(topic, header, payload))

    def publish_own(self, kind: str, guest: str, payload: Message) -> None:
        """guest_up or guest_down, with the broker's own place."""
        self._seq += 1
        self.publish(
            EventHeader(
                guest=guest, epoch=self.instance, seq=self._seq, prev=self._seq - 1, worker=self.instance, time_ns=time.time_ns(), kind=kind
            ),
            payload,
        )

    def epoch_of(self, guest: str) -> str:
        return self.guests[guest].epoch if guest in self.guests else ""

    def _serve(self, ready: threading.Event) -> None:
        self.router = self._context.socket(zmq.ROUTER)
        self.xpub = self._context.socket(zmq.XPUB)
        sockets = (self.router, f"ipc://{self.path}"), (self.xpub, f"ipc://{self.path}.eo")
        for socket, address in sockets:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(address)
        poller = zmq.Poller()
        poller.register(self.router, zmq.POLLIN)
        poller.register(self.xpub, zmq.POLLIN)
        ready.set()
        while not self._ending.is_set():
            for socket, _ in poller.poll(10):
                if socket is self.router:
                    self._on_command(self.router.recv_multipart())
                else:
                    self._on_subscription(self.xpub.recv())
            while not self._work.empty():
                self._work.get()()
            for tick in list(self.ticks):
                tick()
        for socket, _ in sockets:
            socket.close(0)

    def _on_command(self, frames: list[bytes]) -> None:
        identity, *rest = frames
        header = decode_command_header(rest)
        copy = sum(call.header.id == header.id for call in self.calls)
        call = Call(identity, header, decode_args(header.op, rest[1]), copy)
        self.calls.append(call)
        handler = self.guest_handlers.get((header.guest, header.op)) or self.handlers.get(header.op)
        outcome: Outcome
        if header.guest and header.guest not in self.guests:
            outcome = error("guest_unreachable", f"no guest {header.guest}", nearest=[])
        elif handler is None:
            outcome = error("unsupported_op", f"this fake does not do {header.op}")
        else:
            outcome = handler(call)
        if outcome is not None:
            self.answer(call, outcome)

    def _on_subscription(self, frame: bytes) -> None:
        if self.echo and frame[:1] == b"\x01" and frame[1:].startswith(NONCE):
            self.xpub.send_multipart([frame[1:], b"", b""])

    def _hello(self, call: Call) -> Outcome:
        return HelloReply(
            version="0",
            protocol=1,
            instance=self.instance,
            workers=".w",
            events_in=".ei",
            events_out=".eo",
            stdio_in=".si",
            stdio_out=".so",
            heartbeat_ms=self.heartbeat_ms,
        )

    def _guests(self, call: Call) -> Outcome:
        return GuestsReply(guests=list(self.guests.values()), place=Place(epoch=self.instance, seq=self._seq))

    def _info(self, call: Call) -> Outcome:
        return InfoReply(kind="broker", version="0", protocol=1, instance=self.instance)
