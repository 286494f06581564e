"""What the journals of guests hold, and what brokers keep of guests that came and went, up to now: without following."""

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import msgspec

from corral import Cursor, Event
from corral.broker_history import put_place
from corral_schemas.base import Message
from corral_schemas.cursor import Place
from corral_schemas.events import EVENT_KINDS, mark_of
from corral_schemas.frames import decode_event
from corral_schemas.queries import ReplayArgs, ReplayReply

if TYPE_CHECKING:
    from corral import AsyncClient


async def replayed(client: "AsyncClient", guests: Iterable[str], after: Cursor, *, of_brokers: bool = False) -> AsyncIterator[Event]:
    """Events after the cursor of these guests, merged by time; of_brokers: also brokers' own. Raises cursor_too_old, guest_unreachable."""
    names = list(guests)
    sources: dict[str, AsyncIterator[Event]] = {name: _of_guest(client, name, after.places.get(name)) for name in names}
    if of_brokers:
        sources[""] = client.guest_history(after)
    heads = {name: event for name, source in sources.items() if (event := await anext(source, None)) is not None}
    places = dict(after.places)
    while heads:
        name = min(heads, key=lambda key: heads[key].header.time_ns)
        event = heads.pop(name)
        if name:
            places[name] = Place(epoch=event.header.epoch, seq=event.header.seq, mark=mark_of(event.header))
        else:
            put_place(places, event.header.epoch, event.header.seq)
        yield Event(event.header, event.data, event.payload, dict(places))
        following = await anext(sources[name], None)
        if following is not None:
            heads[name] = following


async def _of_guest(client: "AsyncClient", guest: str, place: Place | None) -> AsyncIterator[Event]:
    epoch, seq, mark, newest = (place.epoch, place.seq, place.mark, None) if place else ("", 0, 0, None)
    while True:
        reply = await client.call(guest, "replay", ReplayArgs(epoch=epoch, after=seq, mark=mark))
        if not isinstance(reply, ReplayReply):
            raise TypeError(f"replay was answered with {type(reply).__name__}")
        newest = reply.last_seq if newest is None else newest  # the end is where it was when we began
        for header_frame, payload_frame in reply.events:
            header, data = decode_event([b"", header_frame, payload_frame])
            yield Event(header, data, _typed(header.kind, data))
        if reply.upto >= newest or reply.upto <= seq:
            return
        epoch, seq, mark = reply.epoch, reply.upto, 0


def _typed(kind: str, data: dict[str, object]) -> Message | None:
    return msgspec.convert(data, EVENT_KINDS[kind]) if kind in EVENT_KINDS else None
