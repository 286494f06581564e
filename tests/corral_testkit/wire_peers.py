"""Peers that speak Corral's protocol over real sockets, one message at a time: for tests of whatever is at the other end.

RawClient sends commands and reads replies, Subscriber reads events or stdio, FakeWorker registers as a guest and answers as it is told.
Every wait has an end: PeerTimeoutError after `timeout_s`. Run as a program it is a worker that answers every command:
`python wire_peers.py ADDRESS GUEST`.
"""

import itertools
import secrets
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
import zmq

from corral_schemas import session
from corral_schemas.base import Message
from corral_schemas.errors import CorralError
from corral_schemas.events import EventHeader, StdioHeader
from corral_schemas.frames import (
    CommandHeader,
    ReplyHeader,
    decode_reply,
    encode_command,
    encode_event,
    encode_reply,
    encode_stdio,
    pack,
    reply_value,
    unpack,
)
from corral_schemas.names import new_instance
from corral_schemas.queries import GuestsReply, HelloReply, InfoReply, Nothing
from corral_schemas.topics import NONCE, event_topic, stdio_topic

WAIT_S = 10.0
M = TypeVar("M", bound=Message)


class PeerTimeoutError(Exception):
    """Nothing came in time."""


def joined(address: str, place: str) -> str:
    """The address of another of the broker's sockets: `place` is a port, a suffix or a whole address, as hello gave it."""
    if "://" in place:
        return place
    return f"{address.rpartition(':')[0]}:{place}" if address.startswith("tcp://") else address + place


class Keys(NamedTuple):
    """What a tcp connection is made with, in Z85."""

    public: str
    secret: str
    server: str


class Peer:
    """A context of its own, closed without waiting."""

    def __init__(self, timeout_s: float = WAIT_S, keys: Keys | None = None) -> None:
        self.keys = keys
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes every socket at once; safe to call again."""
        self.context.destroy(linger=0)

    def dial(self, kind: int, endpoint: str, *, send_hwm: int = 1_000) -> "zmq.Socket[bytes]":
        """`send_hwm` of 0: nothing that is sent is ever dropped here."""
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.sndhwm = send_hwm
        if self.keys is not None:
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = (key.encode() for key in self.keys)
        socket.connect(endpoint)
        return socket

    def receive(self, socket: "zmq.Socket[bytes]", timeout_s: float | None = None) -> list[bytes]:
        """The next message. Raises PeerTimeoutError."""
        if not socket.poll(int(1000 * (self.timeout_s if timeout_s is None else timeout_s))):
            raise PeerTimeoutError("no message came")
        return socket.recv_multipart()


class RawClient(Peer):
    """A client that sends exactly what it is told and never repeats anything."""

    def __init__(self, address: str, timeout_s: float = WAIT_S, keys: Keys | None = None) -> None:
        super().__init__(timeout_s, keys)
        self.address = address
        self.socket = self.dial(zmq.DEALER, address)
        self._ids = itertools.count(1)
        self._prefix = secrets.token_hex(4)

    def send(self, op: str, args: Message, guest: str = "", *, id: str = "", timeout_ms: int = 10_000, **header: Any) -> str:
        """Sends a command and returns its request id."""
        request_id = id or f"{self._prefix}-{next(self._ids)}"
        made = CommandHeader(id=request_id, guest=guest, op=op, timeout_ms=timeout_ms, **header)
        self.socket.send_multipart(encode_command(made, args))
        return request_id

    def reply(self, op: str, timeout_s: float | None = None) -> tuple[ReplyHeader, Message | CorralError]:
        """The next reply, taken as one to `op`; an error is returned, not raised."""
        header, body = decode_reply(self.receive(self.socket, timeout_s))
        try:
            return header, reply_value(op, body)
        except CorralError as why:
            return header, why

    def call(self, op: str, args: Message, guest: str = "", **more: Any) -> Message:
        """Sends and reads the reply. Raises the reply's CorralError."""
        request_id = self.send(op, args, guest, **more)
        header, outcome = self.reply(op)
        assert header.id == request_id, f"a reply to {header.id} in place of {request_id}"
        if isinstance(outcome, CorralError):
            raise outcome
        return outcome

    def hello(self) -> HelloReply:
        reply = self.call("hello", Nothing())
        assert isinstance(reply, HelloReply)
        return reply

    def guests(self) -> GuestsReply:
        reply = self.call("guests", Nothing())
        assert isinstance(reply, GuestsReply)
        return reply

    def info(self) -> InfoReply:
        reply = self.call("info", Nothing())
        assert isinstance(reply, InfoReply)
        return reply

    def subscriber(self, *prefixes: bytes, stdio: bool = False) -> "Subscriber":
        """A Subscriber that is live."""
        hello = self.hello()
        return Subscriber(
            joined(self.address, hello.stdio_out if stdio else hello.events_out), *prefixes, timeout_s=self.timeout_s, keys=self.keys
        )


class Subscriber(Peer):
    """Reads what is published; live when made."""

    def __init__(self, endpoint: str, *prefixes: bytes, timeout_s: float = WAIT_S, keys: Keys | None = None) -> None:
        super().__init__(timeout_s, keys)
        self.socket = self.dial(zmq.SUB, endpoint)
        nonce = NONCE + secrets.token_hex(8).encode()
        for prefix in (*prefixes, nonce):
            self.socket.subscribe(prefix)
        self.before_live: list[list[bytes]] = []
        while (message := self.receive(self.socket)) != [nonce, b"", b""]:
            self.before_live.append(message)
        self.socket.unsubscribe(nonce)

    def next(self, timeout_s: float | None = None) -> list[bytes]:
        """The next message's frames."""
        return self.before_live.pop(0) if self.before_live else self.receive(self.socket, timeout_s)

    def next_event(self, timeout_s: float | None = None) -> tuple[EventHeader, dict[str, Any]]:
        """The next event's header and payload."""
        _, header, payload = self.next(timeout_s)
        return unpack(EventHeader, header), msgspec.msgpack.decode(payload)


class Command(NamedTuple):
    """A command as a worker got it."""

    ref: bytes
    header: CommandHeader
    args: bytes


class FakeWorker(Peer):
    """A guest's worker, driven step by step. It answers nothing unless told to."""

    def __init__(self, address: str, guest: str, *, worker: str = "", timeout_s: float = WAIT_S, keys: Keys | None = None) -> None:
        super().__init__(timeout_s, keys)
        with RawClient(address, timeout_s, keys) as asker:
            self.hello = asker.hello()
        self.address = address
        self.guest = guest
        self.worker = worker or new_instance(time.time_ns(), secrets.token_bytes(10))
        self.epoch = "epoch-1"
        self.seq = 0
        self.main = self.dial(zmq.DEALER, joined(address, self.hello.workers))
        self.events_socket: zmq.Socket[bytes] | None = None
        self._stdio_pub: zmq.Socket[bytes] | None = None

    def dial_again(self) -> "zmq.Socket[bytes]":
        """Another connection to the workers' ROUTER."""
        return self.dial(zmq.DEALER, joined(self.address, self.hello.workers))

    def send_register(self, socket: "zmq.Socket[bytes] | None" = None, **fields: Any) -> None:
        register = session.Register(**{"guest": self.guest, "worker": self.worker, "epoch": self.epoch, "seq": self.seq, **fields})
        (socket or self.main).send_multipart([session.REGISTER, pack(register)])

    def register(self, socket: "zmq.Socket[bytes] | None" = None, **fields: Any) -> session.Registered:
        """Registers and waits until the session stands."""
        self.send_register(socket, **fields)
        return self.expect(session.REGISTERED, session.Registered, socket)

    def expect(self, kind: bytes, message: type[M], socket: "zmq.Socket[bytes] | None" = None, timeout_s: float | None = None) -> M:
        """The next message, which must be of this kind."""
        frames = self.receive(socket or self.main, timeout_s)
        assert frames[0] == kind, f"{frames[0]!r} came in place of {kind!r}"
        return unpack(message, frames[1])

    def heartbeat(self, **fields: Any) -> session.HeartbeatAck:
        """Sends a heartbeat and waits for its acknowledgement."""
        heartbeat = session.Heartbeat(**{"epoch": self.epoch, "seq": self.seq, **fields})
        self.main.send_multipart([session.HEARTBEAT, pack(heartbeat)])
        return self.expect(session.HEARTBEAT_ACK, session.HeartbeatAck)

    def command(self, timeout_s: float | None = None) -> Command:
        """The next message, which must be a command."""
        frames = self.receive(self.main, timeout_s)
        assert frames[0] == session.COMMAND, f"{frames[0]!r} came in place of a command"
        _, ref, header, args = frames
        return Command(ref, unpack(CommandHeader, header), args)

    def answer(self, command: Command, outcome: Message | CorralError, socket: "zmq.Socket[bytes] | None" = None) -> None:
        header = ReplyHeader(id=command.header.id, guest=self.guest, epoch=self.epoch)
        (socket or self.main).send_multipart([session.REPLY, command.ref, *encode_reply(header, outcome)])

    def goodbye(self, reason: str = "") -> None:
        self.main.send_multipart([session.GOODBYE, pack(session.Goodbye(reason=reason))])

    def publish_event(self, kind: str, payload: Message, container: str = "", process: str = "", **header: Any) -> EventHeader:
        """Numbers an event and publishes it once; nobody waits for it to arrive."""
        self.seq += 1
        fields = {"guest": self.guest, "epoch": self.epoch, "seq": self.seq, "prev": 0, "worker": self.worker, "time_ns": time.time_ns()}
        made = EventHeader(**{**fields, "kind": kind, "container": container, "process": process, **header})
        if self.events_socket is None:
            self.events_socket = self.dial(zmq.PUB, joined(self.address, self.hello.events_in))
        self.events_socket.send_multipart(encode_event(event_topic(made.guest, kind, container, process), made, payload))
        return made

    def publish_stdio(self, container: str, data: bytes, offset: int = 0, **header: Any) -> None:
        """Publishes bytes of init's stdout once; nobody waits for them to arrive."""
        names = {"guest": self.guest, "worker": self.worker, "container": container, "instance": "", "process": "init"}
        fields = {**names, "process_instance": "", "stream": "stdout", "offset": offset, "crc": 0, "time_ns": time.time_ns()}
        made = StdioHeader(**{**fields, **header})
        if self._stdio_pub is None:
            self._stdio_pub = self.dial(zmq.PUB, joined(self.address, self.hello.stdio_in))
        topic = stdio_topic(made.guest, made.container, made.process, made.stream)
        self._stdio_pub.send_multipart(encode_stdio(topic, made, data))


def repeat_until(act: Callable[[], object], done: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Acts again and again until `done`, which may wait a little itself: for a PUB whose connection is not yet through."""
    end_s = time.monotonic() + timeout_s
    while True:
        act()
        if done():
            return
        if time.monotonic() > end_s:
            raise PeerTimeoutError("it did not come to pass")


def serve(address: str, guest: str) -> None:
    """Registers and answers every command, and whatever else asks for an answer, until killed. Says `registered` on stdout."""
    worker = FakeWorker(address, guest)
    worker.register()
    print("registered", flush=True)
    while True:
        frames = worker.receive(worker.main, timeout_s=3_600)
        if frames[0] == session.PLEASE_REGISTER:
            worker.send_register()
        elif frames[0] == session.COMMAND:
            worker.answer(Command(frames[1], unpack(CommandHeader, frames[2]), frames[3]), Nothing())


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
