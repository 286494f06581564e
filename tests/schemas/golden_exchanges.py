"""What golden exchanges are made from: whole messages of several frames, right and wrong."""

from collections.abc import Sequence
from typing import Any

import msgspec

from corral_schemas import frames, queries, session
from corral_schemas.base import Message
from corral_schemas.commands import ContainerTarget, CreateReply, RunArgs
from corral_schemas.containers import ContainerSpec
from corral_schemas.cursor import Place
from corral_schemas.errors import from_wire
from corral_schemas.events import Beacon, EventHeader, ExitEvent, Started
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.frames import CommandHeader, ReplyHeader, pack
from corral_schemas.limits import HEADER_BYTES_MAX
from corral_schemas.stdio import Chunk, ReadStdioArgs, ReadStdioReply
from corral_schemas.topics import beacon_topic, event_topic, stdio_topic
from schemas.golden_events import EVENT_HEADER, EVENT_TOPIC, EXIT_EVENT, STDIO_HEADER
from schemas.golden_samples import BROKER, CONTAINER, CRC_HELLO, EPOCH, ERROR, INIT, LOAD, NOW, PLACE, QUERIES, STATE, WORKER

REF = bytes.fromhex("0000000000000011")
TO_BROKER = CommandHeader(id="c1-1", op="hello", timeout_ms=5_000)
TO_GUEST = CommandHeader(id="c1-2", guest="vm-1", op="state", timeout_ms=30_000)
FROM_GUEST = ReplyHeader(id="c1-2", guest="vm-1", epoch=EPOCH)
BEACON_HEADER = EventHeader(guest="vm-1", epoch=EPOCH, seq=42, prev=0, worker=BROKER, time_ns=NOW, kind="beacon")
COMMAND = frames.encode_command(TO_GUEST, ContainerTarget(container="web"))
REPLY = frames.encode_reply(FROM_GUEST, queries.StateReply(state=STATE, place=PLACE))


# one container's life as a client sees it: what PROTOCOL.md shows first
STARTED_NS, EXITED_NS = NOW, NOW + 5_000_000
RUN = RunArgs(container="web", spec=ContainerSpec(rootfs="/srv/rootfs/busybox", args=["sh", "-c", "echo hello; exit 7"]))
RUN_REPLY = CreateReply(container="web", instance=CONTAINER, process_instance=INIT, pid=4242, place=Place(epoch=EPOCH, seq=40))
WHOLE = StreamEnd(state="closed", total=6, crc=CRC_HELLO)
NONE = StreamEnd(state="closed", total=0, crc=0)
END = Exit(type="exited", code=7, started_ns=STARTED_NS, exited_ns=EXITED_NS, streams={"stdout": WHOLE, "stderr": NONE})
OUTPUT = ReadStdioReply(
    process_instance=INIT,
    chunks=[Chunk(stream="stdout", offset=0, time_ns=STARTED_NS + 1_000_000, crc_before=0, crc=CRC_HELLO, data=b"hello\n")],
    next={"stdout": 6, "stderr": 0},
    ends={"stdout": WHOLE, "stderr": NONE},
    exit=END,
)
STARTED_HEADER = EventHeader(
    guest="vm-1", epoch=EPOCH, seq=41, prev=0, worker=WORKER, time_ns=STARTED_NS, kind="started", container="web", instance=CONTAINER,
    process="init", process_instance=INIT,
)  # fmt: skip
END_HEADER = EventHeader(
    guest="vm-1", epoch=EPOCH, seq=42, prev=0, worker=WORKER, time_ns=EXITED_NS, kind="exit", container="web", instance=CONTAINER,
    process="init", process_instance=INIT,
)  # fmt: skip
REPLAYED = queries.ReplayReply(
    epoch=EPOCH,
    events=[(pack(STARTED_HEADER), pack(Started(pid=4242))), (pack(END_HEADER), pack(ExitEvent(exit=END)))],
    upto=42,
    last_seq=42,
)


def _asked(number: int, op: str, args: Message, timeout_ms: int) -> list[bytes]:
    return frames.encode_command(CommandHeader(id=f"c1-{number}", guest="vm-1", op=op, timeout_ms=timeout_ms, epoch=EPOCH), args)


def _answered(number: int, answer: Message) -> list[bytes]:
    return frames.encode_reply(ReplyHeader(id=f"c1-{number}", guest="vm-1", epoch=EPOCH), answer)


def _row(about: str, decoder: str, parts: Sequence[bytes], code: str = "") -> dict[str, Any]:
    row = {"about": about, "decoder": decoder, "frames": [part.hex() for part in parts]}
    return row | {"code": code} if code else row


def good() -> dict[str, dict[str, Any]]:
    """Name → what it is, how it is decoded, and its frames."""
    hello = next(one for one in QUERIES if isinstance(one, queries.HelloReply))
    register = session.Register(guest="vm-1", worker=WORKER, epoch=EPOCH, seq=42, runtime="runc 1.1.5")
    heartbeat = session.Heartbeat(epoch=EPOCH, seq=42)
    rows = {
        "hello": ("client → broker: what is where?", "command", frames.encode_command(TO_BROKER, queries.Nothing())),
        "hello reply": ("broker → client", "reply", frames.encode_reply(ReplyHeader(id="c1-1"), hello)),
        "state": ("client → broker", "command", COMMAND),
        "state at the worker": ("broker → worker, on the main session", "session", [session.COMMAND, REF, *COMMAND]),
        "state reply of the worker": ("worker → broker", "session", [session.REPLY, REF, *REPLY]),
        "state reply": ("broker → client", "reply", REPLY),
        "error reply": ("broker → client", "reply", frames.encode_reply(FROM_GUEST, from_wire(ERROR))),
        "register": ("worker → broker, first message of a session", "session", [session.REGISTER, pack(register)]),
        "registered": (
            "broker → worker",
            "session",
            [session.REGISTERED, pack(session.Registered(broker=BROKER, heartbeat_ms=5_000, seen=PLACE))],
        ),
        "heartbeat": ("worker → broker", "session", [session.HEARTBEAT, pack(heartbeat)]),
        "heartbeat_ack": ("broker → worker", "session", [session.HEARTBEAT_ACK, pack(session.HeartbeatAck())]),
        "exit event": ("worker → exchange → subscribers", "event", frames.encode_event(EVENT_TOPIC, EVENT_HEADER, EXIT_EVENT)),
        "beacon": (
            "broker → subscribers",
            "event",
            frames.encode_event(beacon_topic("vm-1"), BEACON_HEADER, Beacon(last_seq_by_kind={"exit": 42}, load=LOAD)),
        ),
        "stdio": (
            "worker → exchange → raw subscribers",
            "stdio",
            frames.encode_stdio(stdio_topic("vm-1", "web", "init", "stdout"), STDIO_HEADER, b"hello\n"),
        ),
        "run": ("client → broker: a container, if the guest's epoch is still this one", "command", _asked(3, "run", RUN, 30_000)),
        "run reply": ("broker → client: its init runs", "reply", _answered(3, RUN_REPLY)),
        "read_stdio": (
            "client → broker, over the second DEALER: its output from the beginning",
            "command",
            _asked(
                4,
                "read_stdio",
                ReadStdioArgs(container="web", instance=CONTAINER, process_instance=INIT, stdout=0, stderr=0, wait_ms=20_000),
                25_000,
            ),
        ),
        "read_stdio reply": ("broker → client: all of it, the ends of both streams, and the exit", "reply", _answered(4, OUTPUT)),
        "wait": (
            "client → broker: how did it end?",
            "command",
            _asked(5, "wait", queries.WaitArgs(container="web", instance=CONTAINER, process_instance=INIT, timeout_ms=60_000), 65_000),
        ),
        "wait reply": ("broker → client", "reply", _answered(5, queries.WaitReply(exit=END, process_instance=INIT))),
        "exit of init": (
            "broker → subscribers: the last event that was had is the one with seq 40, so 41 is missing",
            "event",
            frames.encode_event(event_topic("vm-1", "exit", "web", "init"), END_HEADER, ExitEvent(exit=END)),
        ),
        "replay": (
            "client → broker: what came after 40?",
            "command",
            _asked(6, "replay", queries.ReplayArgs(epoch=EPOCH, after=40), 10_000),
        ),
        "replay reply": ("broker → client: the header and payload frames of both events", "reply", _answered(6, REPLAYED)),
        "nonce echo": ("exchange → the subscriber of `nonce/7f3a`", "nonce", [b"nonce/7f3a", b"", b""]),
        "subscription": ("subscriber → exchange, as ZMTP 3.0 carries it: all events of vm-1", "subscription", [b"\x01event/vm-1/"]),
    }
    return {name: _row(*row) for name, row in rows.items()}


def bad() -> dict[str, dict[str, Any]]:
    """Name → what is wrong with it, how it is decoded, its frames, and the error it gives."""
    header, args = COMMAND
    later = pack({**_plain(TO_GUEST), "v": 2})
    event = frames.encode_event(EVENT_TOPIC, EVENT_HEADER, EXIT_EVENT)
    rows: dict[str, tuple[str, str, list[bytes], str]] = {
        "one frame": ("a command without arguments frame", "command", [header], "bad_request"),
        "three frames": ("a command with a frame too many", "command", [header, args, b""], "bad_request"),
        "no frames": ("nothing at all", "command", [], "bad_request"),
        "later version": ("a version not spoken here", "command", [later, args], "unsupported_version"),
        "unknown op": ("an op that is not in the table", "command", [_with(op="destroy"), args], "unsupported_op"),
        "no request id": ("an empty request id", "command", [_with(id=""), args], "bad_request"),
        "header too large": ("a header over its limit", "command", [_with(trace="x" * HEADER_BYTES_MAX), args], "message_too_large"),
        "header not msgpack": ("JSON in place of msgpack", "command", [b'{"v": 1}', args], "bad_request"),
        "wrong arguments": ("`container` is missing", "command", [header, pack({"instance": ""})], "bad_request"),
        "reply of one frame": ("a reply without body", "reply", [REPLY[0]], "bad_request"),
        "reply without either": ("neither ok nor error", "reply", [REPLY[0], pack({})], "bad_request"),
        "event of two frames": ("an event without payload", "event", event[:2], "bad_request"),
        "event payload not a map": ("a number", "event", [*event[:2], pack(7)], "bad_request"),
        "stdio stream unknown": ("stream 3", "stdio", [b"stdio/", pack({**_plain(STDIO_HEADER), "stream": "3"}), b""], "bad_request"),
    }
    return {name: _row(*row) for name, row in rows.items()}


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.msgpack.decode(pack(message))
    return plain


def _with(**changes: Any) -> bytes:
    return pack({**_plain(TO_GUEST), **changes})
