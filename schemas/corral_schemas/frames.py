"""Frames ↔ messages, without I/O. Sizes are checked before anything is decoded; whatever is wrong is a CorralError with a code."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from corral_schemas import PROTOCOL_VERSION
from corral_schemas.base import GuestName, HeaderVersion, Message, RequestId
from corral_schemas.errors import CorralError, WireError, error, from_wire, to_wire
from corral_schemas.events import EventHeader, StdioHeader
from corral_schemas.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX, SHARED_NAME_CHARS_MAX, TIMEOUT_S_MAX
from corral_schemas.ops import OPS, Op

T = TypeVar("T", bound=Message)

# ValidationError is a DecodeError; a str that is not UTF-8 is a UnicodeDecodeError
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.msgpack.Encoder()
pack = _encoder.encode
"""One message → msgpack bytes."""


class CommandHeader(Message, frozen=True, kw_only=True):
    """First frame of a command. The broker reads only this."""

    v: HeaderVersion = 1  # a literal: it is left out on the wire at 1, so absent means 1 for ever
    id: RequestId
    guest: GuestName = ""
    op: Annotated[str, Meta(description="Which command; see the message table")]
    timeout_ms: Annotated[int, Meta(ge=0, le=TIMEOUT_S_MAX * 1000, description="Time left when it was sent (this time)")]
    age_ms: Annotated[int, Meta(ge=0, description="Time since it was first sent, by the sender's monotonic clock")] = 0
    epoch: Annotated[str, Meta(description="The guest's epoch as known when it was first sent; empty: unstated")] = ""
    trace: Annotated[str, Meta(description="Passed through to logs", max_length=256)] = ""
    shared: Annotated[str, Meta(description="Name of arguments that go to several guests", max_length=SHARED_NAME_CHARS_MAX)] = ""


class ReplyHeader(Message, frozen=True, kw_only=True):
    """First frame of a reply."""

    v: HeaderVersion = 1  # a literal: it is left out on the wire at 1, so absent means 1 for ever
    id: RequestId
    guest: GuestName = ""
    epoch: Annotated[str, Meta(description="The guest's epoch now")] = ""


class ReplyBody(Message, frozen=True, kw_only=True):
    """Second frame of a reply: exactly one of the two."""

    ok: Annotated[msgspec.Raw, Meta(description="The reply of the op, where the command succeeded")] = msgspec.Raw()
    error: Annotated[WireError | None, Meta(description="What went wrong, where the command failed")] = None


_command_header = msgspec.msgpack.Decoder(CommandHeader)
_reply_header = msgspec.msgpack.Decoder(ReplyHeader)
_reply_body = msgspec.msgpack.Decoder(ReplyBody)
_event_header = msgspec.msgpack.Decoder(EventHeader)
_stdio_header = msgspec.msgpack.Decoder(StdioHeader)


@cache
def _made(kind: type[Message]) -> "msgspec.msgpack.Decoder[Any]":
    return msgspec.msgpack.Decoder(kind)


def _decoder(kind: type[T]) -> "msgspec.msgpack.Decoder[T]":
    """Made when first needed: most programs never use most ops."""
    return _made(kind)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", frame: bytes | memoryview, what: str, limit: int) -> T:
    if len(frame) > limit:
        raise error("message_too_large", f"{what} of {len(frame)} bytes; the limit is {limit}", limit=limit)
    try:
        return decoder.decode(frame)
    except _UNDECODABLE as why:
        raise error("bad_request", f"{what}: {why}{_hint(str(why))}") from why


def _hint(why: str) -> str:
    """What the writer of a client is helped by: msgpack libraries of some languages choose types that are not meant (PROTOCOL.md, R-11)."""
    if why.startswith(("Expected `int`, got `float`", "Expected `int | null`, got `float`")):
        return "; integers must be msgpack integers, also those of 2^32 and above"
    if why.startswith(("Expected `bytes`, got `str`", "Expected `str`, got `bytes`")):
        return "; str and bin are two types of msgpack"
    if why.startswith("Expected `object`, got `ext`"):
        return "; maps must be msgpack maps, not records of a library's own"
    return ""


def _check_count(frames: Sequence[bytes], count: int, what: str) -> None:
    if len(frames) != count:
        raise error("bad_request", f"{what} has {len(frames)} frames instead of {count}")


def unpack(kind: type[T], frame: bytes, what: str = "message") -> T:
    """Decodes and validates one message. Raises bad_request or message_too_large."""
    return _decode(_decoder(kind), frame, what, FRAME_BYTES_MAX)


def encode_command(header: CommandHeader, args: Message) -> list[bytes]:
    """→ [header, args]"""
    return [pack(header), pack(args)]


def decode_command_header(frames: Sequence[bytes]) -> CommandHeader:
    """[header, args] → header, with the version checked; args are not looked at."""
    _check_count(frames, 2, "command")
    if len(frames[1]) > FRAME_BYTES_MAX:
        raise error(
            "message_too_large",
            f"arguments of {len(frames[1])} bytes; the limit is {FRAME_BYTES_MAX}",
            limit=FRAME_BYTES_MAX,
        )
    header = _decode(_command_header, frames[0], "command header", HEADER_BYTES_MAX)
    if header.v != PROTOCOL_VERSION:
        raise error(
            "unsupported_version",
            f"protocol version {header.v}; spoken here: {PROTOCOL_VERSION}",
            spoken=[PROTOCOL_VERSION],
        )
    return header


def salvage_request_id(frames: Sequence[bytes]) -> str:
    """The request id of a command that cannot be decoded, so that its error can be answered; empty where there is none."""

    class JustId(msgspec.Struct):
        id: str = ""

    try:
        return msgspec.msgpack.decode(frames[0][:HEADER_BYTES_MAX], type=JustId).id[:128]
    except (IndexError, *_UNDECODABLE):
        return ""


def op_named(name: str) -> Op:
    """Raises unsupported_op."""
    if name not in OPS:
        raise error("unsupported_op", f"op {name[:80]!r} is unknown here", op=name[:80])
    return OPS[name]


def decode_args(op: str, frame: bytes) -> Message:
    """Raises unsupported_op or bad_request (naming the field)."""
    op_named(op)
    return _decode(_decoder(OPS[op].args), frame, f"arguments of {op}", FRAME_BYTES_MAX)


def encode_reply(header: ReplyHeader, outcome: Message | CorralError) -> list[bytes]:
    """→ [header, {ok} | {error}]"""
    if isinstance(outcome, CorralError):
        return [pack(header), pack({"error": to_wire(outcome)})]
    return [pack(header), pack({"ok": outcome})]


def decode_reply(frames: Sequence[bytes]) -> tuple[ReplyHeader, ReplyBody]:
    """[header, body] → both; the body's ok stays raw until reply_value."""
    _check_count(frames, 2, "reply")
    header = _decode(_reply_header, frames[0], "reply header", HEADER_BYTES_MAX)
    return header, _decode(_reply_body, frames[1], "reply body", FRAME_BYTES_MAX + HEADER_BYTES_MAX)


def reply_value(op: str, body: ReplyBody) -> Message:
    """The reply of an op. Raises the CorralError that the reply carries."""
    if body.error is not None:
        raise from_wire(body.error)
    return _decode(_decoder(OPS[op].reply), memoryview(body.ok), f"reply of {op}", FRAME_BYTES_MAX)


def encode_event(topic: bytes, header: EventHeader, payload: Message) -> list[bytes]:
    """→ [topic, header, payload]"""
    return [topic, pack(header), pack(payload)]


def decode_event(frames: Sequence[bytes]) -> tuple[EventHeader, dict[str, Any]]:
    """[topic, header, payload] → header and payload as a plain map (unknown kinds too)."""
    _check_count(frames, 3, "event")
    header = decode_event_header(frames[1])
    if len(frames[2]) > HEADER_BYTES_MAX:
        raise error("message_too_large", f"event payload of {len(frames[2])} bytes", limit=HEADER_BYTES_MAX)
    try:
        data = msgspec.msgpack.decode(frames[2], type=dict[str, Any])
    except _UNDECODABLE as why:
        raise error("bad_request", f"event payload: {why}") from why
    return header, data


def decode_event_header(frame: bytes) -> EventHeader:
    return _decode(_event_header, frame, "event header", HEADER_BYTES_MAX)


def encode_stdio(topic: bytes, header: StdioHeader, data: bytes) -> list[bytes]:
    """→ [topic, header, bytes]"""
    return [topic, pack(header), data]


def decode_stdio_header(frame: bytes) -> StdioHeader:
    return _decode(_stdio_header, frame, "stdio header", HEADER_BYTES_MAX)
