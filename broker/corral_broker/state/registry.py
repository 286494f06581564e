"""Guests and the sessions that speak for them: who is up, when each was last heard, and the highest place ever heard of its journal.

Nothing here looks at every guest in turn: liveness is a heap of times to look again, one entry per guest that is up.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal

from corral_broker.state.guest import Guest
from corral_broker.state.guest_warnings import warnings_of
from corral_schemas.cursor import Place
from corral_schemas.limits import GUEST_DOWN_S
from corral_schemas.queries import GuestInfo

GUESTS_MAX = 50_000
"""Guests known, up or down; beyond, those down longest are forgotten, and when all are up a new one is refused."""


Role = Literal["main", "bulk"]


class Registry:
    """Guests by name, and the session → guest map that routing goes by."""

    def __init__(self) -> None:
        self.guests: dict[str, Guest] = {}
        self._sessions: dict[bytes, tuple[Guest, Role]] = {}  # routing id -> whom it speaks for
        self._down: OrderedDict[str, None] = OrderedDict()  # guests that are down, longest first
        self._looks: list[tuple[float, int, Guest]] = []  # heap: when to look whether a guest that is up was heard; int breaks ties
        self._looks_made = 0
        self.places_moved = False
        """A guest's seen place has moved since somebody last set this to False."""
        self.must_write = False
        """What was forgotten is to be so after a kill too: the places are written before the turn ends."""
        self.names_version = 0
        """Rises whenever a guest is added or forgotten."""

    @property
    def up_count(self) -> int:
        return len(self.guests) - len(self._down)

    def remember(self, places: Iterable[tuple[str, Place]], wall_ns: int, now_s: float) -> None:
        """Takes in what an earlier broker had seen."""
        for name, place in places:
            guest = self._add(name)
            guest.seen = place
            guest.epoch, guest.seq, guest.mark = place.epoch, place.seq, place.mark
            guest.since_ns, guest.heard_s = wall_ns, now_s
            guest.reason = "not heard since the broker started"

    def find_or_add(self, name: str) -> Guest | None:
        """The guest of that name; None where GUESTS_MAX guests are up already."""
        guest = self.guests.get(name)
        if guest is not None:
            return guest
        while len(self.guests) >= GUESTS_MAX:
            if not self._down:
                return None
            forgotten, _ = self._down.popitem(last=False)
            del self.guests[forgotten]
            self.names_version += 1
        return self._add(name)

    def forget(self, name: str) -> bool:
        """False where it is not known, or up."""
        guest = self.guests.get(name)
        if guest is None or guest.up:
            return False
        del self.guests[name]
        self._down.pop(name, None)
        self.names_version += 1
        self.places_moved = self.must_write = True
        return True

    def see(self, guest: Guest, place: Place) -> None:
        """This place was heard of: it counts if it is further on, or in another epoch, than the one known."""
        seen = guest.seen
        if seen is None or seen.epoch != place.epoch or seen.seq < place.seq:
            guest.seen = place
            self.places_moved = True

    def session(self, identity: bytes) -> tuple[Guest, Role] | None:
        """Whom the connection with this routing id registered for."""
        return self._sessions.get(identity)

    def attach(self, guest: Guest, identity: bytes, role: Role, now_s: float) -> None:
        """The connection speaks for the guest from now on."""
        self._sessions[identity] = (guest, role)
        if role == "bulk":
            guest.bulk = identity
            return
        guest.heard_s = now_s
        if guest.main is None:
            self._down.pop(guest.name, None)
            if not guest.watched:
                self._look_at(guest, now_s + GUEST_DOWN_S)
        guest.main = identity

    def detach_bulk(self, guest: Guest) -> None:
        if guest.bulk is not None:
            self._sessions.pop(guest.bulk, None)
            guest.bulk = None

    def detach(self, guest: Guest) -> None:
        """The guest is down: neither of its connections speaks for it any more."""
        self.detach_bulk(guest)
        if guest.main is not None:
            self._sessions.pop(guest.main, None)
            guest.main = None
            self._down[guest.name] = None

    def next_look_s(self) -> float | None:
        return self._looks[0][0] if self._looks else None

    def pop_silent(self, now_s: float) -> list[Guest]:
        """Guests that are up and were not heard for GUEST_DOWN_S."""
        silent: list[Guest] = []
        while self._looks and self._looks[0][0] <= now_s:
            guest = heapq.heappop(self._looks)[2]
            guest.watched = False
            if guest.main is None:
                continue
            if guest.heard_s + GUEST_DOWN_S <= now_s:
                silent.append(guest)
            else:
                self._look_at(guest, guest.heard_s + GUEST_DOWN_S)
        return silent

    def infos(self, now_s: float, version: str) -> list[GuestInfo]:
        """Every guest, by name; `version` is ours."""
        return [_info(self.guests[name], now_s, version) for name in sorted(self.guests)]

    def _look_at(self, guest: Guest, when_s: float) -> None:
        self._looks_made += 1
        guest.watched = True
        heapq.heappush(self._looks, (when_s, self._looks_made, guest))

    def _add(self, name: str) -> Guest:
        guest = self.guests[name] = Guest(name)
        self._down[name] = None
        self.names_version += 1
        return guest


def _info(guest: Guest, now_s: float, version: str) -> GuestInfo:
    return GuestInfo(
        guest=guest.name,
        up=guest.up,
        worker=guest.worker,
        epoch=guest.epoch,
        seq=guest.seq,
        mark=guest.mark,
        labels=guest.labels,
        version=guest.version,
        protocol=guest.protocol,
        runtime=guest.runtime,
        load=guest.load,
        since_ns=guest.since_ns,
        heard_ms=max(0, int((now_s - guest.heard_s) * 1000)),
        in_flight=guest.credits.in_flight + guest.credits.waits,
        reason=guest.reason,
        warnings=warnings_of(guest, version, now_s),
    )
