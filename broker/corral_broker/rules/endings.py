"""How a session ends: the guest is down, what was sent to it is answered, and whoever waits for its name gets it."""

from collections.abc import Callable

from corral_broker.rules.router import Router
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.events import BrokerEvents
from corral_broker.state.guest import Guest
from corral_broker.state.registry import Registry


class Endings:
    """The one place where a guest goes down."""

    def __init__(
        self,
        registry: Registry,
        router: Router,
        events: BrokerEvents,
        counters: Counters,
        clock: Clock,
        on_free: Callable[[Guest], None],
    ) -> None:
        """`on_free` is called last, when the guest's name is free to be registered."""
        self._registry = registry
        self._router = router
        self._events = events
        self._counters = counters
        self._clock = clock
        self._on_free = on_free

    def gone(self, guest: Guest, reason: str) -> None:
        """The guest's main session is over; nothing happens when it was before."""
        if guest.main is None:
            return
        self._registry.detach(guest)
        guest.reason = reason
        guest.since_ns = self._clock.wall_ns
        self._counters.add("guests_gone")
        self._router.fail(guest, reason)
        self._events.guest_down(guest, self._clock.wall_ns)
        self._on_free(guest)

    def bulk_gone(self, guest: Guest, reason: str) -> None:
        """The second connection broke: replies may have been lost with it, so the commands that wait for such replies are answered."""
        self._registry.detach_bulk(guest)
        self._router.fail(guest, reason, only_bulk=True)

    def lost(self, identity: bytes, reason: str) -> None:
        """The connection with this routing id is no more, or speaks for somebody else from now on."""
        known = self._registry.session(identity)
        if known is None:
            return
        guest, role = known
        if role == "main":
            self.gone(guest, reason)
        else:
            self.bulk_gone(guest, reason)
