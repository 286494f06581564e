"""What kind of message some frames are, for the table of what met what."""

from __future__ import annotations

import msgspec

from corral_schemas import session
from corral_schemas.events import EVENT_KINDS
from corral_schemas.ops import OPS

_SESSION = {
    session.REGISTER,
    session.HEARTBEAT,
    session.GOODBYE,
    session.REGISTERED,
    session.REFUSED,
    session.PLEASE_REGISTER,
    session.HEARTBEAT_ACK,
    session.REPLY,
}


class _Header(msgspec.Struct):
    op: str = ""


_NEVER_PUBLISHED = {"worker_started"}
"""It is written before the worker has a connection to any broker: readers get it by replay, in a `reply`."""

_header = msgspec.msgpack.Decoder(_Header)


def kind_of(frames: list[bytes]) -> str:
    """An op for a command, a kind for an event, `reply`, `subscribe`, `stdio`, or what the session calls it."""
    first = frames[0]
    if first.startswith(b"event/"):
        return "e:" + first.split(b"/")[2].decode()
    if first.startswith((b"nonce/", b"stdio/")):
        return first[:5].decode()
    if len(frames) == 1 and first[:1] in (b"\x00", b"\x01"):
        return "subscribe"
    if first in _SESSION:
        return first.decode()
    header = frames[2] if first == session.COMMAND else first
    try:
        return _header.decode(header).op or "reply"
    except msgspec.DecodeError:
        return "unknown"


def kinds() -> list[str]:
    """Every kind of message there is between clients, brokers and workers."""
    events = (f"e:{kind}" for kind in EVENT_KINDS if kind not in _NEVER_PUBLISHED)
    session_kinds = (kind.decode() for kind in _SESSION)
    return sorted({*OPS, *events, *session_kinds, "reply", "subscribe", "nonce", "stdio"})
