"""Brokers' own events in order, guests that come and go: what can be handed on, and when to ask a broker for what is missing. No I/O."""

import heapq
from dataclasses import dataclass, field
from typing import Any

from corral.core.guest_feed import DecodedEvent, event_of
from corral.core.items import EventGap, Step
from corral.core.selection import Selection
from corral_schemas.cursor import Place
from corral_schemas.events import BROKER_KINDS, EventHeader
from corral_schemas.queries import ReplayReply

HELD_MAX = 10_000
"""Events kept that came before one they follow."""
LOST = "word of guests coming or going was lost: ask `guests`"


@dataclass(frozen=True, slots=True)
class BrokerReplay:
    """Ask the broker of this epoch for what comes after; 0: from the oldest that it keeps."""

    epoch: str
    after: int


@dataclass(slots=True)
class _Feed:
    last: int
    """Everything wanted up to this seq was handed on or given up."""
    newest: int = 0
    due: bool = False
    asking: bool = False
    from_oldest: bool = False
    """What comes after `last` is no longer kept: the next reply begins later."""
    held: list[tuple[int, EventHeader, dict[str, Any]]] = field(default_factory=list[tuple[int, EventHeader, dict[str, Any]]])


class BrokerFeeds:
    """By epoch: each broker has one, and keeps it over its restarts where it has a state directory."""

    def __init__(self, want: Selection) -> None:
        self._want = want
        self._feeds: dict[str, _Feed] = {}
        self.wanted = any(want.gives(kind) for kind in BROKER_KINDS - {"beacon"})

    def begin(self, epoch: str, after: int, newest: int) -> None:
        """What the broker keeps of after `after`, up to `newest` at least, is read first."""
        self._feeds[epoch] = _Feed(after, newest, due=after < newest)

    def settle(self, epoch: str, seq: int) -> None:
        """Where nothing has come of this broker yet: what comes is after that."""
        self._feeds.setdefault(epoch, _Feed(seq))

    def on_event(self, header: EventHeader, data: dict[str, Any]) -> tuple[bool, list[Step]]:
        """A live one: whether it is news, and what can be handed on."""
        feed = self._feeds.get(header.epoch)
        if feed is None:
            feed = self._feeds[header.epoch] = _Feed(header.seq - 1)
        if header.seq <= feed.last or any(seq == header.seq for seq, _, _ in feed.held):
            return False, []
        wide = self._want.guests is None
        missing = (header.seq - 1 if wide else header.prev) > feed.last
        if self.wanted and (missing or feed.asking or feed.due) and len(feed.held) < HELD_MAX:
            heapq.heappush(feed.held, (header.seq, header, data))
            feed.due = True
            return True, []
        return True, self._give(feed, header, data)

    def check(self) -> None:
        """A subscription was broken: every broker is asked what came in between."""
        for feed in self._feeds.values():
            feed.due = feed.due or self.wanted

    def asks(self) -> list[BrokerReplay]:
        asks = []
        for epoch, feed in self._feeds.items():
            if feed.due and not feed.asking:
                feed.due, feed.asking = False, True
                asks.append(BrokerReplay(epoch, 0 if feed.from_oldest else feed.last))
        return asks

    def on_replay(self, ask: BrokerReplay, reply: ReplayReply, events: list[DecodedEvent]) -> list[Step]:
        feed = self._feeds[ask.epoch]
        feed.asking = False
        steps: list[Step] = []
        for header, data in events:
            if header.seq <= feed.last:
                continue
            if header.seq > feed.last + 1 and (ask.after or feed.from_oldest):
                steps += self._gap(feed, ask.epoch, header.seq - 1)
            steps += self._give(feed, header, data)
        feed.from_oldest = False
        feed.last = max(feed.last, reply.upto)
        if reply.upto < reply.last_seq and events:
            feed.due = True
            return steps
        return steps + self._release(feed, ask.epoch)

    def on_failed(self, ask: BrokerReplay, code: str) -> list[Step]:
        """No broker of this epoch answered, or what was asked for is no longer kept."""
        feed = self._feeds[ask.epoch]
        feed.asking = False
        if code == "cursor_too_old" and ask.after and not feed.from_oldest:
            feed.from_oldest = feed.due = True
            return []
        feed.from_oldest = False
        steps: list[Step] = []
        if not feed.held and feed.newest > feed.last:
            steps = self._gap(feed, ask.epoch, feed.newest)
            feed.last = feed.newest
        return steps + self._release(feed, ask.epoch)

    def places(self) -> dict[str, Place]:
        """Where each broker stands."""
        return {epoch: Place(epoch=epoch, seq=feed.last) for epoch, feed in self._feeds.items()}

    def _release(self, feed: _Feed, epoch: str) -> list[Step]:
        """What was held is handed on; what is missing before it now was asked for in vain."""
        steps: list[Step] = []
        while feed.held:
            seq, header, data = heapq.heappop(feed.held)
            if seq <= feed.last:
                continue
            if (seq - 1 if self._want.guests is None else header.prev) > feed.last:
                steps += self._gap(feed, epoch, seq - 1)
            steps += self._give(feed, header, data)
        return steps

    def _gap(self, feed: _Feed, epoch: str, end: int) -> list[Step]:
        return [EventGap("", epoch, feed.last + 1, end, LOST)] if self._want.guests is None and self.wanted else []

    def _give(self, feed: _Feed, header: EventHeader, data: dict[str, Any]) -> list[Step]:
        feed.last = header.seq
        known = self._want.has_guest(header.guest) if header.guest else self._want.guests is None and self._want.members is None
        return [event_of(header, data)] if known and self._want.gives(header.kind) else []
