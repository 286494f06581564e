"""A broker's core with recorded ways out and a clock that the test moves."""

from typing import Any

import msgspec

from corral_broker.core import BrokerCore
from corral_broker.rules.answers import Identity
from corral_broker.state.ports import Delivery, Frames
from corral_schemas import session
from corral_schemas.base import Message
from corral_schemas.errors import CorralError
from corral_schemas.events import EventHeader
from corral_schemas.frames import CommandHeader, ReplyHeader, decode_reply, encode_command, encode_reply, pack, reply_value, unpack
from corral_schemas.queries import ListArgs, Nothing

WALL_NS = 1_700_000_000_000_000_000
IDENTITY = Identity("broker-1", "broker-epoch", WALL_NS, ".w", ".ei", ".eo", ".si", ".so")


class Rig:
    """Is the core's Ports, and its peers."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.to_clients: list[list[Any]] = []
        self.to_workers: list[list[Any]] = []
        self.events: list[list[Any]] = []
        self.stdio: list[list[Any]] = []
        self.gone: set[bytes] = set()
        self.full: set[bytes] = set()
        self.core = BrokerCore(self, IDENTITY, self.now_s, WALL_NS, first_ref=7)

    def to_client(self, frames: Frames) -> None:
        self.to_clients.append(list(frames))

    def to_worker(self, frames: Frames) -> Delivery:
        if frames[0] in self.gone:
            return "gone"
        if frames[0] in self.full:
            return "full"
        self.to_workers.append(list(frames))
        return "sent"

    def publish_event(self, frames: Frames) -> None:
        self.events.append(list(frames))

    def publish_stdio(self, frames: Frames) -> None:
        self.stdio.append(list(frames))

    def pass_time(self, seconds: float) -> None:
        """Moves the clock and lets the core do what is due, as a loop that sleeps until then would."""
        end_s = self.now_s + seconds
        while (due_s := self.core.next_due_s()) is not None and due_s <= end_s:
            self.now_s = max(self.now_s, due_s)
            self.begin()
            self.core.end()
        self.now_s = end_s
        self.begin()
        self.core.end()

    def begin(self) -> None:
        self.core.begin(self.now_s, WALL_NS + int(self.now_s * 1e9))

    def register(self, identity: bytes, guest: str, worker: str = "w1", **fields: Any) -> list[Any]:
        """Registers and returns what the worker is sent in answer (its last message)."""
        self.send_session(identity, session.REGISTER, session.Register(guest=guest, worker=worker, **fields))
        return self.last_to(identity)

    def send_session(self, identity: bytes, kind: bytes, message: Message) -> None:
        self.core.worker([identity, kind, pack(message)])
        self.core.end()

    def heartbeat(self, identity: bytes, **fields: Any) -> session.HeartbeatAck:
        self.send_session(identity, session.HEARTBEAT, session.Heartbeat(**{"epoch": "e1", "seq": 0, **fields}))
        kind, ack = self.last_to(identity)
        assert kind == session.HEARTBEAT_ACK
        return unpack(session.HeartbeatAck, ack)

    def last_to(self, identity: bytes) -> list[Any]:
        return next((frames[1:] for frames in reversed(self.to_workers) if frames[0] == identity), [b""])

    def command(
        self, guest: str, op: str = "list", id: str = "r1", client: bytes = b"c1", args: Message | None = None, **more: Any
    ) -> None:
        header = CommandHeader(id=id, guest=guest, op=op, **{"timeout_ms": 1_000, **more})
        self.core.client([client, *encode_command(header, args if args is not None else ListArgs())])

    def commands_to(self, identity: bytes) -> list[tuple[bytes, CommandHeader]]:
        sent = [frames for frames in self.to_workers if frames[0] == identity and frames[1] == session.COMMAND]
        return [(frames[2], unpack(CommandHeader, frames[3])) for frames in sent]

    def answer(self, identity: bytes, ref: bytes, id: str, guest: str) -> None:
        self.core.worker([identity, session.REPLY, ref, *encode_reply(ReplyHeader(id=id, guest=guest), Nothing())])

    def replies(self, client: bytes = b"c1") -> list[tuple[str, str]]:
        """(request id, `ok` or the error's code) of everything this client was answered."""
        found = []
        for frames in self.to_clients:
            if frames[0] == client:
                header, body = decode_reply([bytes(frame) for frame in frames[1:]])
                found.append((header.id, body.error.code if body.error else "ok"))
        return found

    def last_error(self) -> CorralError:
        _, body = decode_reply(self.to_clients[-1][1:])
        try:
            reply_value("list", body)
        except CorralError as why:
            return why
        raise AssertionError("the last reply is no error")

    def own_events(self) -> list[tuple[EventHeader, dict[str, Any]]]:
        return [(unpack(EventHeader, frames[1]), msgspec.msgpack.decode(frames[2])) for frames in self.events]

    def count(self, reason: str) -> int:
        return self.core.counters.counts[reason]
