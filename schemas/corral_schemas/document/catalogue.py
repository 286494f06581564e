"""Which Structs are messages, and which occur only inside messages."""

from collections.abc import Iterator

from msgspec import inspect as types

from corral_schemas import frames, session
from corral_schemas.events import EVENT_KINDS, EventHeader, StdioHeader
from corral_schemas.ops import OPS

HEADERS: dict[str, type] = {
    kind.__name__: kind for kind in (frames.CommandHeader, frames.ReplyHeader, frames.ReplyBody, EventHeader, StdioHeader)
}
SESSION: dict[bytes, type] = {
    session.REGISTER: session.Register,
    session.REGISTERED: session.Registered,
    session.REFUSED: session.Refused,
    session.PLEASE_REGISTER: session.PleaseRegister,
    session.HEARTBEAT: session.Heartbeat,
    session.HEARTBEAT_ACK: session.HeartbeatAck,
    session.GOODBYE: session.Goodbye,
}
"""First frame of a session message → the Struct of its second."""


def level_of(name: str) -> str:
    """The lowest conformance level that needs a message, which is also the folder of its golden samples. Raises KeyError."""
    kind = messages()[name]
    if kind in (EventHeader, StdioHeader, *EVENT_KINDS.values()):
        return "subscriber"
    return "worker" if kind in SESSION.values() else "client"


def messages() -> dict[str, type]:
    """Every Struct that is a frame of its own, by name."""
    of_ops = [kind for op in OPS.values() for kind in (op.args, op.reply)]
    return {kind.__name__: kind for kind in [*HEADERS.values(), *SESSION.values(), *of_ops, *EVENT_KINDS.values()]}


def parts() -> dict[str, type]:
    """Every Struct that occurs only inside messages, by name."""
    found: dict[str, type] = {}
    for kind in messages().values():
        for inner in _structs_in(types.type_info(kind)):
            found[inner.__name__] = inner
    return {name: found[name] for name in sorted(found) if name not in messages()}


def _structs_in(info: types.Type) -> Iterator[type]:
    if isinstance(info, types.Metadata):
        yield from _structs_in(info.type)
    elif isinstance(info, types.StructType):
        yield info.cls
        for field in info.fields:
            yield from _structs_in(field.type)
    elif isinstance(info, types.UnionType):
        for choice in info.types:
            yield from _structs_in(choice)
    elif isinstance(info, types.ListType):
        yield from _structs_in(info.item_type)
    elif isinstance(info, types.DictType):
        yield from _structs_in(info.value_type)
