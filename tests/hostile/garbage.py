"""Hostile messages: made at random, or good ones with something changed in them."""

import random
from collections.abc import Callable

import msgspec

from corral_schemas import commands, session, stdio
from corral_schemas.base import Message
from corral_schemas.containers import ContainerSpec, OciProcess
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError, error
from corral_schemas.events import EventHeader, Started, StdioHeader
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_command, encode_event, encode_reply, encode_stdio, pack
from corral_schemas.ops import OPS
from corral_schemas.queries import HelloReply, ListArgs, Nothing, PsArgs, ReplayArgs, ResultArgs, WaitArgs
from corral_schemas.topics import event_topic, stdio_topic

Frames = list[bytes]
Make = Callable[[random.Random], Frames]
MIXTURE = 4
"""One message in so many is made at random, one is good, the others are good ones with one thing wrong."""


def mixed(rng: random.Random, number: int, good: Make) -> Frames:
    """The next message to send."""
    match number % MIXTURE:
        case 0:
            return at_random(rng)
        case 1:
            return good(rng)
        case _:
            return mangled(rng, good(rng))


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


def event_message(guest: str) -> Make:
    def make(rng: random.Random) -> Frames:
        header = EventHeader(
            guest=rng.choice([guest, "good"]), epoch="e", seq=1, prev=0, worker="w", time_ns=1, kind="started", container="c"
        )
        return encode_event(event_topic(header.guest, header.kind, "c"), header, Started(pid=1))

    return make


def stdio_message(guest: str) -> Make:
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
    """As much as a publisher may be sent: subscriptions, their ends, and what is neither."""
    kind = rng.choice([b"\x01", b"\x01", b"\x00", b"\x02", b"\xff", b""])
    return [kind + rng.choice([b"", b"stdio/", b"event/fuzz/", b"event/good/", b"stdio/good/c/"]) + rng.randbytes(rng.randrange(60))]


SPEC = ContainerSpec(rootfs="/no/such/rootfs", args=["true"])
COMMANDS: list[tuple[str, Message]] = [
    ("start", commands.ContainerTarget(container="none")),
    ("pause", commands.ContainerTarget(container="none")),
    ("stats", commands.ContainerTarget(container="none")),
    ("state", commands.ContainerTarget(container="none")),
    ("kill", commands.KillArgs(container="none")),
    ("stop", commands.StopArgs(container="none")),
    ("delete", commands.DeleteArgs(container="none")),
    ("update", commands.UpdateArgs(container="none", resources={"memory": {"limit": -1}})),
    ("create", commands.CreateArgs(container="c", bundle="../../../proc/self")),
    ("create", commands.CreateArgs(container="c", spec=SPEC)),
    ("run", commands.RunArgs(container="c", spec=SPEC, auto_delete=True)),
    ("exec", commands.ExecArgs(container="none", process="p", spec=OciProcess(args=["true"]))),
    ("cancel", commands.CancelArgs(id="x")),
    ("resize", stdio.ResizeArgs(container="none", process="init", rows=1, columns=1)),
    ("write_stdin", stdio.WriteStdinArgs(container="none", process="init", offset=0, data=b"x")),
    ("close_stdin", stdio.CloseStdinArgs(container="none", process="init")),
    ("read_stdio", stdio.ReadStdioArgs(container="none", process="init", stdout=0)),
    ("wait", WaitArgs(container="none", process="init")),
    ("replay", ReplayArgs()),
    ("result", ResultArgs(id="x")),
    ("ps", PsArgs(container="none")),
    ("list", ListArgs()),
    ("info", Nothing()),
]
"""None of them has an effect: the container is not there, and neither is what it would be made of."""
ODD_OPS = 8
"""One command in so many has arguments of another op."""


def to_worker(guest: str) -> Make:
    """What a broker sends to a worker's session."""

    def make(rng: random.Random) -> Frames:
        op, args = rng.choice(COMMANDS)
        if not rng.randrange(ODD_OPS):
            op = rng.choice([*OPS, "odd"])
        header = CommandHeader(id=f"{rng.randrange(1 << 40)}", guest=guest, op=op, timeout_ms=rng.choice([0, 50, 2_000, 1 << 40]))
        registered = session.Registered(
            broker="0" * 26, heartbeat_ms=1, seen=rng.choice([None, Place(epoch="e", seq=1)]), stdio_prefixes=[rng.randbytes(9)]
        )
        made: list[Frames] = [
            [session.COMMAND, rng.randbytes(8), *encode_command(header, args)],
            [session.COMMAND, rng.randbytes(8), *encode_command(header, args)],
            [session.COMMAND, rng.randbytes(8), *encode_command(header, args)],
            [session.REGISTERED, pack(registered)],
            [session.HEARTBEAT_ACK, pack(session.HeartbeatAck(stdio_prefixes=[rng.randbytes(9), b"stdio/" + guest.encode() + b"/"]))],
            [session.PLEASE_REGISTER, pack(session.PleaseRegister())],
            [session.REFUSED, pack(session.Refused(code="guest_busy", message="\x1b[2J" * 3))],
        ]
        return rng.choice(made)

    return make


def hello_reply(rng: random.Random) -> Frames:
    """What a broker answers to a worker's hello."""
    reply = HelloReply(
        version="1",
        protocol=1,
        instance="0" * 26,
        workers=".w",
        events_in=rng.choice([".ei", "", "x://y"]),
        events_out=".eo",
        stdio_in=".si",
        stdio_out=".so",
        heartbeat_ms=5_000,
    )
    outcomes: list[Message | CorralError] = [reply, error("unauthorized", "no"), Nothing()]
    return encode_reply(ReplyHeader(id="hello"), rng.choice(outcomes))
