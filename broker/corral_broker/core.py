"""The broker without its sockets: messages and the time go in, messages come out through Ports. Deterministic, one thread, no clock."""

from collections.abc import Callable, Iterable, Mapping

from corral_broker.access.gate import Gate, OpenGate
from corral_broker.rules.answers import Answers, Identity
from corral_broker.rules.endings import Endings
from corral_broker.rules.exchange import Exchange, Pair
from corral_broker.rules.registration import Registration
from corral_broker.rules.returning import Returning
from corral_broker.rules.router import Router
from corral_broker.rules.sessions import Sessions
from corral_broker.rules.stdio_announcements import StdioAnnouncements
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.events import BrokerEvents
from corral_broker.state.guest import Guest
from corral_broker.state.history import History, Standing
from corral_broker.state.ports import Opaque, Ports
from corral_broker.state.registry import Registry
from corral_broker.state.senders import ANYONE, Sender
from corral_broker.state.subscriptions import StdioSubscriptions
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError
from corral_schemas.events import BrokerStarted
from corral_schemas.frames import decode_args


class BrokerCore:
    """Router, sessions and exchange over one registry.

    Each turn: `begin` with the time, any number of messages, `end`.
    """

    def __init__(
        self,
        ports: Ports,
        identity: Identity,
        now_s: float,
        wall_ns: int,
        first_ref: int,
        counters: Counters | None = None,
        make_gate: Callable[[Clock], Gate] | None = None,
        history: History | None = None,
    ) -> None:
        """`first_ref` is a random 63-bit number. Without `make_gate` everybody may do everything; without `history` it is in memory."""
        self._ports = ports
        self._clock = Clock(now_s, wall_ns)
        self.counters = counters or Counters()
        self._gate: Gate = make_gate(self._clock) if make_gate is not None else OpenGate()
        self.registry = Registry()
        history = history or History(identity.epoch)
        self._events = BrokerEvents(identity.instance, history, ports.publish_event)
        self._returning = Returning(self.registry, self._events, self._clock)
        self._router = Router(ports, self.registry, self.counters, self._clock, first_ref, self._gone, self._gate)
        self._endings = Endings(self.registry, self._router, self._events, self.counters, self._clock, self._freed)
        subscriptions = StdioSubscriptions()
        self._announcements = StdioAnnouncements(ports, self.registry, subscriptions, self._endings, self._clock)
        self._exchange = Exchange(self.registry, subscriptions, self.counters, self._announcements.changed, self._gate)
        self._registration = Registration(
            ports,
            self.registry,
            self._router,
            self._events,
            self._announcements,
            self._endings,
            self.counters,
            self._clock,
            identity.instance,
            self._gate,
        )
        self._sessions = Sessions(
            ports,
            self.registry,
            self._router,
            self._events,
            self._registration,
            self._announcements,
            self._endings,
            self.counters,
            self._clock,
            self._gate,
        )
        self._answers = Answers(identity, self.registry, self._router, self._events, self.counters, self._clock, history)

    def remember(self, places: Iterable[tuple[str, Place]], standing: Mapping[str, Standing] | None = None) -> None:
        """What an earlier broker had seen: these guests' commands are held for BROKER_HOLD_S, and their places stated to them.

        standing: where each guest stood by its history.
        """
        self.registry.remember(places, self._clock.wall_ns, self._clock.now_s)
        self._returning.remember(standing or {})

    def started(self, about: BrokerStarted) -> None:
        """Records that this broker begins."""
        self._events.broker_started(about, self._clock.wall_ns)

    def stopped(self, wall_ns: int) -> None:
        """Records that it ends in order."""
        self._events.broker_stopped(wall_ns)

    def begin(self, now_s: float, wall_ns: int) -> None:
        """Begins a turn, with monotonic seconds and wall-clock nanoseconds; whatever is due by now is done."""
        self._clock.now_s = now_s
        self._clock.wall_ns = wall_ns
        self._router.due()
        self._registration.due()
        self._returning.due()
        self._sessions.due()

    def end(self) -> None:
        """Ends a turn: what is told once per turn is told."""
        self._announcements.tell_changed()

    def next_due_s(self) -> float | None:
        """When `begin` has something to do though no message comes; None when never."""
        due_s: float | None = None
        for part in (
            self._router,
            self._registration,
            self._returning,
            self._sessions,
            self._announcements,
        ):  # once for every message: no generator
            when_s = part.next_due_s()
            if when_s is not None and (due_s is None or when_s < due_s):
                due_s = when_s
        return due_s

    def client(self, frames: list[Opaque], sender: Sender = ANYONE) -> None:
        """[client, header, args] from a client."""
        header = self._router.command(frames, sender)
        if header is None:
            return
        self.counters.add(f"asked_{header.op}")
        try:
            args = decode_args(header.op, frames[2])
            reply = self._answers.to(header.op, args, self._gate.rate_per_s(sender))
        except CorralError as why:
            self._router.answer(frames[0], header.id, why)
            return
        self._router.answer(frames[0], header.id, reply)

    def worker(self, frames: list[Opaque], sender: Sender = ANYONE) -> None:
        """[session, kind, …] from a worker."""
        self._sessions.message(frames, sender)

    def lost(self, identity: bytes) -> None:
        """The worker's connection with this routing id is closed."""
        self._registration.left(identity)
        self._endings.lost(identity, "disconnected")

    def event(self, frames: list[Opaque], sender: Sender = ANYONE) -> None:
        """[topic, header, payload] from a worker's PUB."""
        passed = self._exchange.event(frames, self._clock.now_s, sender)
        if passed is not None:
            self._ports.publish_event(passed)

    def stdio(self, frames: list[Opaque], sender: Sender = ANYONE) -> None:
        """[topic, header, bytes] from a worker's PUB."""
        passed = self._exchange.stdio(frames, self._clock.now_s, sender)
        if passed is not None:
            self._ports.publish_stdio(passed)

    def subscription(self, pair: Pair, frame: Opaque) -> None:
        """A subscription or its end, from the XPUB of that pair."""
        echo = self._exchange.subscription(pair, frame, self._clock.now_s)
        if echo is not None and pair == "events":
            self._ports.publish_event(echo)
        elif echo is not None:
            self._ports.publish_stdio(echo)

    def judge_again(self) -> None:
        """Keys have changed: sessions and held commands whose key no longer allows them are ended."""
        for guest in list(self.registry.guests.values()):
            if guest.main is not None and not self._gate.speaks_for(guest.sender, guest.name):
                self._endings.gone(guest, "its key was revoked")
        self._router.drop_held()

    @property
    def awaits_guests(self) -> bool:
        """A guest owes somebody an answer."""
        return len(self._router.pending) > 0

    @property
    def places_moved(self) -> bool:
        """A guest's highest seen place has changed since `take_places`."""
        return self.registry.places_moved

    @property
    def must_write_places(self) -> bool:
        """They are to be written in this turn."""
        return self.registry.must_write

    def take_places(self) -> dict[str, Place]:
        """Every guest's highest seen place."""
        self.registry.places_moved = self.registry.must_write = False
        return {guest.name: guest.seen for guest in self.registry.guests.values() if guest.seen is not None}

    def _gone(self, guest: Guest, reason: str) -> None:
        self._endings.gone(guest, reason)

    def _freed(self, guest: Guest) -> None:
        self._registration.freed(guest)
