"""What brokers keep of guests that came and went: read once, and asked for while events are followed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from corral.connection import Connection
from corral.core.broker_feed import BrokerReplay
from corral.core.follow import Follow
from corral.core.guest_feed import event_of
from corral.core.items import Event, Step
from corral_schemas.cursor import Cursor, Place
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import decode_event
from corral_schemas.queries import InfoReply, Nothing, ReplayArgs, ReplayReply

ASK_S = 5.0
STANDS_S = 2.0
KEY = "/"
"""Before a broker's epoch in a cursor: no guest's name has it."""
PLACES_MAX = 16
"""Brokers' places in a cursor: one without a state directory begins a new epoch at each start."""


class BrokerHistories:
    """Of one event stream: where each of its brokers begins, and the way to the one that has an epoch."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._links: dict[str, int] = {}  # epoch → link

    async def begin(self, follow: Follow, start: Mapping[str, Place] | None) -> Callable[[], None]:
        """From the places in `start`: a cursor without any is from before brokers were in it, an empty one means from the oldest kept.

        What it gives is to be called once the messages that came meanwhile were taken in: then `now` is where a broker stood.
        """
        stands = await asyncio.gather(*(self._stands(link) for link in list(self._connection.hellos)))
        known = {place.epoch: place.seq for place in stands if place is not None and place.epoch}
        if start is not None and (not start or any(name.startswith(KEY) for name in start)):
            for epoch, seq in known.items():
                place = start.get(KEY + epoch)
                follow.brokers.begin(epoch, place.seq if place else 0, seq)
            known.clear()

        def settle() -> None:
            for epoch, seq in known.items():
                follow.brokers.settle(epoch, seq)

        return settle

    async def ask(self, follow: Follow, ask: BrokerReplay) -> list[Step]:
        """Of the broker that has the epoch, wherever that is."""
        code = "guest_unreachable"
        known = self._links.get(ask.epoch)
        for link in [known] if known is not None else list(self._connection.hellos):
            try:
                reply = await _page(self._connection, link, ask.epoch if ask.after else "", ask.after)
                if reply.epoch == ask.epoch:
                    self._links[ask.epoch] = link
                    return follow.brokers.on_replay(ask, reply, [decode_event([b"", *frames]) for frames in reply.events])
            except (CorralError, UnicodeDecodeError) as why:
                code = why.code if isinstance(why, CorralError) else "bad_request"
        return follow.brokers.on_failed(ask, code)

    async def _stands(self, link: int) -> Place | None:
        try:
            info = await self._connection.ask("", "info", Nothing(), InfoReply, timeout_s=STANDS_S, link=link)
        except CorralError:
            return None
        self._links[info.epoch] = link
        return Place(epoch=info.epoch, seq=info.seq)


def put_place(places: dict[str, Place], epoch: str, seq: int) -> None:
    """A broker's, into a cursor's."""
    key = KEY + epoch
    if key not in places:
        ours = [name for name in places if name.startswith(KEY)]
        for name in ours[: max(0, len(ours) + 1 - PLACES_MAX)]:
            del places[name]
    places[key] = Place(epoch=epoch, seq=seq)


async def guest_history(connection: Connection, after: Cursor) -> AsyncIterator[Event]:
    """See AsyncClient.guest_history."""
    sources = [_of_broker(connection, link, after) for link in range(len(connection.addresses))]
    heads = {index: event for index, source in enumerate(sources) if (event := await anext(source, None)) is not None}
    places = dict(after.places)
    while heads:
        index = min(heads, key=lambda key: heads[key].header.time_ns)
        event = heads.pop(index)
        put_place(places, event.header.epoch, event.header.seq)
        yield Event(event.header, event.data, event.payload, dict(places))
        following = await anext(sources[index], None)
        if following is not None:
            heads[index] = following


async def is_kept(connection: Connection) -> bool:
    """Whether the broker in use keeps it over its restarts. Raises unsupported_op for one that keeps none."""
    return (await _page(connection, None, "", 0, limit=1)).durable


async def _of_broker(connection: Connection, link: int, after: Cursor) -> AsyncIterator[Event]:
    reply = await _page(connection, link, "", 0)
    place = after.places.get(KEY + reply.epoch)
    if place is not None:
        reply = await _page(connection, link, place.epoch, place.seq)
    newest = reply.last_seq  # the end is where it was when we began
    while True:
        for event in _events(reply):
            yield event
        if reply.upto >= newest or not reply.events:
            return
        reply = await _page(connection, link, reply.epoch, reply.upto)


def _events(reply: ReplayReply) -> Iterator[Event]:
    for frames in reply.events:
        yield event_of(*decode_event([b"", *frames]))


async def _page(connection: Connection, link: int | None, epoch: str, after: int, **more: int) -> ReplayReply:
    args = ReplayArgs(epoch=epoch, after=after, **more)  # type: ignore[arg-type]
    try:
        return await connection.ask("", "replay", args, ReplayReply, timeout_s=min(ASK_S, connection.timeout_s), link=link)
    except CorralError as why:
        if why.code == "bad_request":
            raise error("unsupported_op", "this broker is of an older version, and keeps no word of guests that came and went") from why
        raise
