"""The session between a worker and a broker: messages `[kind, …]` over the workers' ROUTER.

worker → broker: register, heartbeat, reply, goodbye.  broker → worker: registered, refused, please_register, heartbeat_ack, command.
A command is [COMMAND, ref, header, args] and its reply [REPLY, ref, header, body]: ref is the broker's, the rest as the client sent
and gets it.
"""

from typing import Annotated, Literal

from msgspec import Meta

from corral_schemas.base import Count, GuestName, HeaderVersion, Instance, Mark, Message, TimeNs
from corral_schemas.cursor import Place
from corral_schemas.queries import Load

REGISTER = b"register"
HEARTBEAT = b"heartbeat"
REPLY = b"reply"
GOODBYE = b"goodbye"
REGISTERED = b"registered"
REFUSED = b"refused"
PLEASE_REGISTER = b"please_register"
HEARTBEAT_ACK = b"heartbeat_ack"
COMMAND = b"command"


class Register(Message, frozen=True, kw_only=True):
    """First message of a session. A `bulk` session carries messages full of bytes alone, so that nothing else waits behind them."""

    v: HeaderVersion = 1
    guest: GuestName
    worker: Annotated[Instance, Meta(description="Worker instance: new at every start of the worker process")]
    role: Annotated[Literal["main", "bulk"], Meta(description="Which of the worker's two sessions this is")] = "main"
    epoch: Annotated[str, Meta(description="Epoch of its journal")] = ""
    seq: Annotated[Count, Meta(description="Newest durable seq")] = 0
    mark: Mark = 0
    last_seq_by_kind: Annotated[dict[str, int], Meta(description="Event kind → seq of the newest event of it")] = {}
    labels: Annotated[dict[str, str], Meta(description="Labels of the guest")] = {}
    version: Annotated[str, Meta(description="Corral version of the worker")] = ""
    runtime: Annotated[str, Meta(description="Name and version of its runtime")] = ""
    load: Annotated[Load, Meta(description="How busy the guest is")] = Load()
    token: Annotated[str, Meta(description="One-time enrolment token, for a key the broker does not know yet")] = ""
    time_ns: TimeNs = 0


class Registered(Message, frozen=True, kw_only=True):
    """The session stands. `seen` is the highest place the broker has heard of: a journal in which it is not has been rewound."""

    broker: Instance
    heartbeat_ms: Annotated[Count, Meta(description="How often heartbeats are expected, milliseconds")]
    seen: Annotated[Place | None, Meta(description="Highest place of this guest that the broker has heard of; nil: none")] = None
    stdio_prefixes: Annotated[list[bytes], Meta(description="Stdio subscriptions that match this guest")] = []


class Refused(Message, frozen=True, kw_only=True):
    """The registration was refused; the worker says why in its log and tries again later."""

    code: Annotated[str, Meta(description="An error code")]
    message: Annotated[str, Meta(description="Why, for a person to read")]


class PleaseRegister(Message, frozen=True, kw_only=True):
    """The broker does not know this session (it restarted, or gave the guest up), or asks whether it lives: another claims the guest."""


class Heartbeat(Message, frozen=True, kw_only=True):
    """The worker lives. Every HEARTBEAT_IDLE_S, or HEARTBEAT_BUSY_S when something moved."""

    epoch: Annotated[str, Meta(description="Epoch of its journal")]
    seq: Annotated[Count, Meta(description="Newest durable seq")]
    mark: Mark = 0
    last_seq_by_kind: Annotated[dict[str, int], Meta(description="Event kind → seq of the newest event of it")] = {}
    load: Annotated[Load, Meta(description="How busy the guest is")] = Load()
    stdio_hash: Annotated[Count, Meta(description="CRC-32 of the sorted stdio prefixes the worker knows, joined by newlines")] = 0
    time_ns: TimeNs = 0


class HeartbeatAck(Message, frozen=True, kw_only=True):
    """The broker lives; `stdio_prefixes` is there when the hash differed (and is sent at once when subscriptions change)."""

    stdio_prefixes: Annotated[list[bytes] | None, Meta(description="Stdio subscriptions that match this guest; nil: as before")] = None


class Goodbye(Message, frozen=True, kw_only=True):
    """The worker leaves on purpose."""

    reason: Annotated[str, Meta(description="Why, for a person to read")] = ""
