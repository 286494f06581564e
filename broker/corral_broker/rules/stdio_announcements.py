"""Telling guests which of their stdio is listened to, so that nothing is published that nobody reads."""

from corral_broker.rules.endings import Endings
from corral_broker.state.clock import Clock
from corral_broker.state.guest import Guest
from corral_broker.state.ports import Ports, post
from corral_broker.state.registry import Registry
from corral_broker.state.subscriptions import StdioSubscriptions, stdio_hash
from corral_schemas.session import HEARTBEAT_ACK, HeartbeatAck

TELL_INTERVAL_S = 0.1
"""Between two tellings of changes: who subscribes and unsubscribes without end is not to fill the queue of a guest that does not read."""


class StdioAnnouncements:
    """Sends a guest the full set of prefixes: when it changed, and when the guest's heartbeat shows that it knows another."""

    def __init__(self, ports: Ports, registry: Registry, subscriptions: StdioSubscriptions, endings: Endings, clock: Clock) -> None:
        self._ports = ports
        self._registry = registry
        self._subscriptions = subscriptions
        self._endings = endings
        self._clock = clock
        self._untold: set[str] = set()  # guests (or `*`) whose subscriptions changed since they were told
        self._tell_next_s = 0.0

    def changed(self, guest: str) -> None:
        """Subscriptions of a guest (or `*`: of any) changed; told when the turn ends, so that a burst of changes is told once."""
        self._untold.add(guest)

    def next_due_s(self) -> float | None:
        """When changes are told that came too soon after others; None when there are none."""
        return self._tell_next_s if self._untold else None

    def tell_changed(self) -> None:
        if not self._untold or self._clock.now_s < self._tell_next_s:
            return
        self._tell_next_s = self._clock.now_s + TELL_INTERVAL_S
        names = list(self._registry.guests) if "*" in self._untold else list(self._untold)
        self._untold.clear()
        for name in names:
            guest = self._registry.guests.get(name)
            if guest is None or guest.main is None:
                continue
            prefixes = self._subscriptions.of(name)
            if stdio_hash(prefixes) != guest.told_stdio_hash:
                self._acknowledge(guest, HeartbeatAck(stdio_prefixes=prefixes))
                guest.told_stdio_hash = stdio_hash(prefixes)

    def at_registration(self, guest: Guest) -> list[bytes]:
        """The prefixes to state in `registered`."""
        prefixes = self._subscriptions.of(guest.name)
        guest.told_stdio_hash = stdio_hash(prefixes)
        return prefixes

    def answer_heartbeat(self, guest: Guest, stated_hash: int) -> None:
        """Acknowledges a heartbeat, with the prefixes if the hash in it is not theirs."""
        prefixes = self._subscriptions.of(guest.name)
        known = stdio_hash(prefixes) == stated_hash
        self._acknowledge(guest, HeartbeatAck(stdio_prefixes=None if known else prefixes))

    def _acknowledge(self, guest: Guest, ack: HeartbeatAck) -> None:
        if post(self._ports, guest.main, HEARTBEAT_ACK, ack) == "gone":
            self._endings.gone(guest, "disconnected")
