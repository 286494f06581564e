"""One guest's events put in order: what can be handed on, and when to ask its journal for what is missing. No I/O."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from corral.core.items import Advance, Event, EventGap, Resync, Step
from corral.core.selection import Selection
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError
from corral_schemas.events import EVENT_KINDS, EventHeader, mark_of
from corral_schemas.queries import ReplayReply

HELD_MAX = 10_000
"""Events kept that came before one they follow; further ones come by replay."""
BEACON_GRACE_S = 0.25
"""How long an event that a heartbeat knows of may still be on its way before the journal is asked."""
FAILED_FIRST_S, FAILED_MAX_S = 0.25, 10.0
RETIRED_MAX = 16

DecodedEvent = tuple[EventHeader, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Replay:
    """Ask the guest's journal for what comes after this place."""

    guest: str
    epoch: str
    after: int
    kinds: tuple[str, ...]
    newest: int
    mark: int = 0


@dataclass(frozen=True, slots=True)
class AskPlace:
    """Ask the guest where its journal stands now: the place followed from is void."""

    guest: str
    reason: str


Ask = Replay | AskPlace
_Held = tuple[int, int, EventHeader, dict[str, Any]]
"""seq, arrival, and the event."""


@dataclass(slots=True)
class GuestFeed:
    """What is known of one guest's journal. `seen`: everything wanted up to this seq of `epoch` was handed on or given up."""

    name: str
    want: Selection
    epoch: str = ""
    seen: int = 0
    mark: int = 0
    """Of the event at `seen`, where that is known (see Place.mark)."""
    anchored: bool = False
    """Whether it is known where to begin; otherwise the first event decides."""
    down: bool = False
    heard_s: float = 0.0
    due_s: float | None = None
    """When to ask the journal; None: no reason to."""
    noted_s: float | None = None
    """The due time its owner has in its calendar."""
    asking: bool = False
    _newest: int = 0
    _void: str = ""  # why a new place has to be asked for
    _failures: int = 0
    _held: list[_Held] = field(default_factory=list[_Held])
    _arrivals: int = 0
    _retired: list[str] = field(default_factory=list[str])

    @property
    def place(self) -> Place | None:
        return self._here() if self.anchored and self.epoch else None

    def begin(self, place: Place | None, now_s: float) -> list[Step]:
        """Follow from here; None: from the journal's beginning."""
        self.heard_s = now_s
        if self.anchored:
            return []
        self.anchored = True
        if place is None:
            self._want_by(now_s)
            return []
        self.epoch = place.epoch
        self._at(place.seq, place.mark)
        return [Advance(self.name, place)]

    def on_event(self, header: EventHeader, data: dict[str, Any], now_s: float) -> list[Step]:
        """A live event of the journal."""
        self.heard_s, self.down = now_s, False
        if header.epoch in self._retired:
            return []
        if self.anchored and not self.epoch:  # its beginning is being read: the event will be among that, or after it
            self._newest = max(self._newest, header.seq)
            return []
        steps = self._in_epoch(header.epoch, self.want.before(header))
        if header.seq <= self.seen:
            return steps
        if self.want.before(header) > self.seen:
            if len(self._held) < HELD_MAX:
                self._arrivals += 1
                heapq.heappush(self._held, (header.seq, self._arrivals, header, data))
            self._newest = max(self._newest, header.seq)
            self._want_by(now_s)
            return steps
        return [*steps, *self._give(header, data), *self._release()]

    def on_newest(self, epoch: str, seq: int, last_seq_by_kind: Mapping[str, int] | None, now_s: float, mark: int = 0) -> list[Step]:
        """A heartbeat or a registration says where the journal stands; last_seq_by_kind None: it does not say by kind."""
        self.heard_s, self.down = now_s, False
        if not epoch or epoch in self._retired:
            return []
        newest = seq if last_seq_by_kind is None else self.want.newest(seq, last_seq_by_kind)
        if self.anchored and not self.epoch:
            self._newest = max(self._newest, newest)
            self._want_by(now_s)
            return []
        steps = self._in_epoch(epoch, seq)
        if seq == self.seen and mark and self.mark and mark != self.mark:
            self._void = f"event {seq} of its journal is another one than was handed on: the journal was set back"
            self._want_by(now_s)
        elif newest > self.seen:
            self._newest = max(self._newest, newest)
            self._want_by(now_s + BEACON_GRACE_S)
        elif seq > self.seen and not self._held:
            self._at(seq, mark)
            steps.append(Advance(self.name, self._here()))
        return steps

    def check_by(self, at_s: float) -> None:
        """Ask the journal then, whatever is known."""
        if self.anchored:
            self._newest = max(self._newest, self.seen + 1)
            self._want_by(at_s)

    def ask(self) -> Ask | None:
        """Called when due: what to ask, or None if nothing is missing any more."""
        self.due_s = None
        if self.asking or not self.anchored:
            return None
        if self._void:
            self.asking = True
            return AskPlace(self.name, self._void)
        if self.epoch and self._newest <= self.seen:
            return None
        self.asking = True
        kinds = tuple(sorted(self.want.journal_kinds or ()))
        return Replay(guest=self.name, epoch=self.epoch, after=self.seen, kinds=kinds, newest=self._newest, mark=self.mark)

    def on_replay(self, ask: Replay, reply: ReplayReply, events: list[DecodedEvent], now_s: float) -> list[Step]:
        """The journal's answer, and the events in it decoded."""
        self.asking, self._failures, self.heard_s, self.down = False, 0, now_s, False
        if ask.epoch != self.epoch or reply.epoch in self._retired:  # overtaken by a new epoch
            self._want_by(now_s)
            return []
        if not self.epoch:
            self.epoch = reply.epoch
        elif reply.epoch != self.epoch:
            steps = self._in_epoch(reply.epoch, 0)
            self._newest = reply.last_seq
            self._want_by(now_s)
            return steps
        before = self.seen
        steps = self._replayed(reply, events)
        steps += self._release()
        if reply.last_seq > self.seen and self.seen == before:
            self._failed(now_s)  # it moves on by nothing, though there is more
        elif reply.last_seq > self.seen or self._newest > max(ask.newest, self.seen) or self._held:
            self._newest = max(self._newest, reply.last_seq)
            self._want_by(now_s)
        else:
            self._newest = self.seen
        return steps

    def on_place(self, ask: AskPlace, place: Place, now_s: float) -> list[Step]:
        """Where the journal stands now: goes on from there."""
        self.asking, self._failures, self.heard_s = False, 0, now_s
        if not self._void:  # overtaken by a new epoch, which has been announced
            self._want_by(now_s)
            return []
        self._void = ""
        if place.epoch != self.epoch:
            self._retire(self.epoch)
            self.epoch = place.epoch
            # Late word of an epoch before it may have taken this one for over; the guest itself knows.
            self._retired = [epoch for epoch in self._retired if epoch != place.epoch]
            self._held.clear()
        self._newest = place.seq
        self._at(place.seq, place.mark)
        return [Resync(self.name, ask.reason, place), *self._release()]

    def on_failed(self, ask: Ask, why: CorralError, now_s: float) -> None:
        """The guest gave no answer, or said that the place is void."""
        self.asking = False
        if why.code == "cursor_too_old" and isinstance(ask, Replay) and ask.epoch == self.epoch:
            self._void = why.message
            self._want_by(now_s)
            return
        self._failed(now_s)

    def _failed(self, now_s: float) -> None:
        self._newest = max(self._newest, self.seen + 1)
        self.due_s = now_s + min(FAILED_FIRST_S * 2**self._failures, FAILED_MAX_S)
        self._failures = min(self._failures + 1, 16)

    def _replayed(self, reply: ReplayReply, events: list[DecodedEvent]) -> list[Step]:
        steps: list[Step] = []
        unbroken = self.want.narrow or self.want.journal_kinds is None  # then each event tells whether one is missing before it
        for header, data in events:
            if header.seq <= self.seen:
                continue
            before = self.want.before(header)
            if unbroken and before > self.seen:
                steps.append(EventGap(self.name, self.epoch, self.seen + 1, before, "not in the journal any more"))
            steps += self._give(header, data)
        if reply.upto > self.seen:
            if self.want.journal_kinds is None:
                steps.append(EventGap(self.name, self.epoch, self.seen + 1, reply.upto, "not in the journal any more"))
            self._at(reply.upto, 0)
            steps.append(Advance(self.name, self._here()))
        return steps

    def _release(self) -> list[Step]:
        """Hands on what was held and follows now."""
        steps: list[Step] = []
        while self._held:
            seq, _, header, data = self._held[0]
            if seq > self.seen and self.want.before(header) > self.seen:
                break
            heapq.heappop(self._held)
            if seq > self.seen:
                steps += self._give(header, data)
        return steps

    def _give(self, header: EventHeader, data: dict[str, Any]) -> list[Step]:
        self._at(header.seq, mark_of(header))
        return [event_of(header, data)] if self.want.gives(header.kind) else []

    def _in_epoch(self, epoch: str, first_seen: int) -> list[Step]:
        """Begins here if nothing was known; turns to a new epoch if it is one."""
        if not self.anchored:
            self.anchored, self.epoch = True, epoch
            self._at(first_seen, 0)
            return [Advance(self.name, self._here())]
        if epoch == self.epoch:
            return []
        self._retire(self.epoch)
        self._held.clear()
        self.epoch, self._newest, self._void = epoch, 0, ""
        self._at(0, 0)
        return [Resync(self.name, "its journal began a new epoch", Place(epoch=epoch, seq=0))]

    def _here(self) -> Place:
        return Place(epoch=self.epoch, seq=self.seen, mark=self.mark)

    def _at(self, seq: int, mark: int) -> None:
        """Everything up to there was handed on; `mark` is that of the event there, 0 where it is not known."""
        self.seen, self.mark = seq, mark

    def _retire(self, epoch: str) -> None:
        if epoch:
            self._retired = [*self._retired, epoch][-RETIRED_MAX:]

    def _want_by(self, at_s: float) -> None:
        self.due_s = at_s if self.due_s is None else min(self.due_s, at_s)


def event_of(header: EventHeader, data: dict[str, Any]) -> Event:
    """An Event with its payload typed where its kind is known and the payload valid."""
    kind = EVENT_KINDS.get(header.kind)
    try:
        payload = msgspec.convert(data, kind) if kind is not None else None
    except msgspec.ValidationError:  # from a version that changed this kind: the plain map has it all
        payload = None
    return Event(header=header, data=data, payload=payload)
