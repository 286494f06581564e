"""Guests that were up when the broker before ended: whether they have come back is known once they had time to."""

from collections.abc import Iterable, Mapping

from corral_broker.state.clock import Clock
from corral_broker.state.events import BrokerEvents
from corral_broker.state.history import Standing
from corral_broker.state.registry import Registry
from corral_schemas.limits import GUEST_DOWN_S


class Returning:
    """One that comes back in time was never down, as far as anybody knows; of the others it is told once that they are."""

    def __init__(self, registry: Registry, events: BrokerEvents, clock: Clock) -> None:
        self._registry = registry
        self._events = events
        self._clock = clock
        self._awaited: list[str] = []
        self._until_s = 0.0

    def remember(self, standing: Mapping[str, Standing]) -> None:
        """Gives known guests what the history says of them. One that was up may be known from there alone."""
        for name, one in standing.items():
            guest = self._registry.find_or_add(name) if one.up else self._registry.guests.get(name)
            if guest is None:
                continue
            guest.last_up_seq, guest.last_down_seq = one.up_seq, one.down_seq
            if one.up:
                guest.since_ns, guest.heard_s = self._clock.wall_ns, self._clock.now_s
                guest.reason = "not heard since the broker started"
            else:
                guest.since_ns, guest.reason = one.since_ns, one.reason
        self._await(name for name, one in standing.items() if one.up)

    def due(self) -> None:
        if not self._awaited or self._clock.now_s < self._until_s:
            return
        for name in self._awaited:
            guest = self._registry.guests.get(name)
            if guest is not None and not guest.worker:  # it has not registered in between either
                self._events.guest_down(guest, self._clock.wall_ns)
        self._awaited.clear()

    def next_due_s(self) -> float | None:
        return self._until_s if self._awaited else None

    def _await(self, names: Iterable[str]) -> None:
        self._awaited = list(names)
        self._until_s = self._clock.now_s + GUEST_DOWN_S
