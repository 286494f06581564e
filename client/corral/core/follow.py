"""The events of many guests, each once and in its guest's order, or explicit word of what is missing. No I/O.

Live messages and heartbeats go in; what is missing is found by seq (or prev), by the seq in heartbeats, and by silence; it is asked of the
guests' journals. Steps for the reader come out in order; `asks` says what to ask.
"""

import heapq
from typing import Any

from corral.core.broker_feed import BrokerFeeds
from corral.core.guest_feed import Ask, AskPlace, GuestFeed, Replay, event_of
from corral.core.items import Step
from corral.core.selection import Selection
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError
from corral_schemas.events import BROKER_KINDS, EventHeader
from corral_schemas.frames import decode_event
from corral_schemas.queries import ReplayReply

ASKS_MAX = 64
"""Guests asked at the same time."""
QUIET_HEARTBEATS = 2
"""Heartbeats a guest may miss before its journal is asked."""
RECONNECT_GRACE_S = 0.5


class Follow:
    """All guests of one stream. Times are seconds of one monotonic clock."""

    def __init__(self, want: Selection, heartbeat_s: float, now_s: float) -> None:
        self.want = want
        self._quiet_s = QUIET_HEARTBEATS * heartbeat_s
        self._feeds: dict[str, GuestFeed] = {}
        self._due: list[tuple[float, str]] = []
        self._asks = 0
        self._scan_s = now_s + self._quiet_s
        self.brokers = BrokerFeeds(want)
        self._journals = want.journal_kinds is None or bool(want.journal_kinds)

    @property
    def places(self) -> dict[str, Place]:
        """Where every guest stands."""
        return {name: feed.place for name, feed in self._feeds.items() if feed.place is not None}

    def add_guest(self, guest: str, place: Place | None, now_s: float) -> list[Step]:
        """A guest known from elsewhere. Where a start was given its place there counts (or its beginning); otherwise `place`, and None
        means: from its first event seen."""
        if not self._journals or not self.want.has_guest(guest):
            return []
        feed, steps = self._feed(guest, now_s)
        if not feed.anchored and place is not None:
            steps += feed.begin(place, now_s)
        self._note(feed)
        return steps

    def on_message(self, header: EventHeader, data: dict[str, Any], now_s: float) -> list[Step]:
        """A live event, from any broker."""
        if header.kind == "guest_up" and self.want.members is not None:
            labels = data.get("labels")
            self.want.members.learn(header.guest, labels if isinstance(labels, dict) else {})
        if not self.want.has_guest(header.guest):
            return []
        if header.kind in BROKER_KINDS:
            return self._on_broker(header, data, now_s)
        if not self._journals:
            return []
        feed, steps = self._feed(header.guest, now_s)
        steps += feed.on_event(header, data, now_s)
        self._note(feed)
        return steps

    def on_replay(self, ask: Replay, reply: ReplayReply, now_s: float) -> list[Step]:
        """The answer to a Replay. Raises bad_request, as if it had not come, for one that cannot be read: then on_failed is due."""
        events = [decode_event([b"", header_frame, payload_frame]) for header_frame, payload_frame in reply.events]
        self._asks -= 1
        steps = self._feeds[ask.guest].on_replay(ask, reply, events, now_s)
        self._note(self._feeds[ask.guest])
        return steps

    def on_place(self, ask: AskPlace, place: Place, now_s: float) -> list[Step]:
        self._asks -= 1
        steps = self._feeds[ask.guest].on_place(ask, place, now_s)
        self._note(self._feeds[ask.guest])
        return steps

    def on_failed(self, ask: Ask, why: CorralError, now_s: float) -> None:
        self._asks -= 1
        self._feeds[ask.guest].on_failed(ask, why, now_s)
        self._note(self._feeds[ask.guest])

    def on_reconnect(self, now_s: float) -> None:
        """A subscription was broken for a while: every journal is asked what came in between, brokers' too."""
        self.brokers.check()
        for feed in self._feeds.values():
            if not feed.down:
                feed.check_by(now_s + RECONNECT_GRACE_S)
                self._note(feed)

    def asks(self, now_s: float) -> list[Ask]:
        """What to ask now; each is answered by on_replay, on_place or on_failed."""
        if now_s >= self._scan_s:
            self._scan(now_s)
        asks: list[Ask] = []
        while self._due and self._due[0][0] <= now_s and self._asks < ASKS_MAX:
            due_s, guest = heapq.heappop(self._due)
            feed = self._feeds[guest]
            feed.noted_s = None if feed.noted_s == due_s else feed.noted_s
            if feed.due_s == due_s and (ask := feed.ask()) is not None:
                self._asks += 1
                asks.append(ask)
        return asks

    def next_wake_s(self) -> float:
        """When to call `asks` next, if nothing else happens."""
        if self._due and self._asks < ASKS_MAX:
            return min(self._due[0][0], self._scan_s)
        return self._scan_s

    def _on_broker(self, header: EventHeader, data: dict[str, Any], now_s: float) -> list[Step]:
        steps: list[Step] = []
        if header.kind != "beacon":
            is_news, steps = self.brokers.on_event(header, data)
            if not is_news:
                return []
        elif self.want.gives(header.kind):
            steps.append(event_of(header, data))
        if not self._journals:
            return steps
        feed, added = self._feed(header.guest, now_s)
        steps += added
        if header.kind == "beacon":
            by_kind = data.get("last_seq_by_kind")
            mark = data.get("mark", 0)
            by_kind, mark = (by_kind if isinstance(by_kind, dict) else {}), (mark if isinstance(mark, int) else 0)
            steps += feed.on_newest(header.epoch, header.seq, by_kind, now_s, mark)
        elif header.kind == "guest_up":
            epoch, seq = data.get("epoch", ""), data.get("seq", 0)
            if isinstance(epoch, str) and isinstance(seq, int):
                steps += feed.on_newest(epoch, seq, None, now_s)
        else:
            feed.down = True
        self._note(feed)
        return steps

    def _feed(self, guest: str, now_s: float) -> tuple[GuestFeed, list[Step]]:
        feed = self._feeds.get(guest)
        if feed is not None:
            return feed, []
        feed = self._feeds[guest] = GuestFeed(name=guest, want=self.want, heard_s=now_s)
        if self.want.start is None:
            return feed, []
        steps = feed.begin(self.want.start.get(guest), now_s)
        feed.check_by(now_s)
        return feed, steps

    def _scan(self, now_s: float) -> None:
        self._scan_s = now_s + self._quiet_s / 4
        for feed in self._feeds.values():
            if not feed.down and feed.anchored and feed.due_s is None and not feed.asking and now_s - feed.heard_s >= self._quiet_s:
                feed.heard_s = now_s  # asked once per quiet time
                feed.check_by(now_s)
                self._note(feed)

    def _note(self, feed: GuestFeed) -> None:
        if feed.due_s is not None and feed.due_s != feed.noted_s and not feed.asking:
            feed.noted_s = feed.due_s
            heapq.heappush(self._due, (feed.due_s, feed.name))
