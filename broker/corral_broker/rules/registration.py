"""How a connection becomes a guest's session.

When a guest's session stands and another connection registers for the same guest, it is either the same guest come back while the old
connection hangs half-open (a power cut, a cut link), or a second guest with the same identity (a clone; one made from a memory snapshot
even carries the same worker instance, so that the instance decides nothing). The old session is asked `please_register`, which a living
worker answers at once, and the newcomer waits for PROBE_S: a sign of life in that time refuses the newcomer with guest_busy, a closed
connection or silence gives it the guest. Nothing of this happens after a killed worker, whose connection is seen to be closed at once.
"""

from dataclasses import dataclass

from corral_broker.access.gate import Gate
from corral_broker.rules.endings import Endings
from corral_broker.rules.router import Router
from corral_broker.rules.stdio_announcements import StdioAnnouncements
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.deadlines import DeadlineWheel
from corral_broker.state.events import BrokerEvents
from corral_broker.state.guest import Guest
from corral_broker.state.guest_warnings import clock_ahead_s
from corral_broker.state.ports import Delivery, Opaque, Ports, post
from corral_broker.state.registry import Registry
from corral_broker.state.senders import Sender
from corral_schemas import PROTOCOL_VERSION, session
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import unpack
from corral_schemas.limits import HEARTBEAT_IDLE_S, LABELS_MAX
from corral_schemas.names import check_guest_name

PROBE_S = 1.0
"""How long a session whose guest another connection claims has to show that it lives."""
SESSION_BYTES_MAX = 64 << 10
"""Largest register, heartbeat or goodbye."""
WORKER_CHARS_MAX = 64
UNHEARD_MAX = 10_000
"""Connections whose replies were dropped that are remembered; beyond, all are forgotten."""


@dataclass(slots=True, eq=False)
class Contender:
    """A connection that claims a guest whose session stands."""

    identity: bytes
    register: session.Register
    since_s: float
    sender: Sender
    tick: int = 0


class Registration:
    """Takes register messages; decides between a session and its contender."""

    def __init__(
        self,
        ports: Ports,
        registry: Registry,
        router: Router,
        events: BrokerEvents,
        announcements: StdioAnnouncements,
        endings: Endings,
        counters: Counters,
        clock: Clock,
        instance: str,
        gate: Gate,
    ) -> None:
        self._ports = ports
        self._registry = registry
        self._router = router
        self._events = events
        self._announcements = announcements
        self._endings = endings
        self._counters = counters
        self._clock = clock
        self._instance = instance
        self._gate = gate
        self._contenders: dict[str, Contender] = {}  # guest -> the newest connection that claims it
        self._probes: DeadlineWheel[Contender] = DeadlineWheel()
        self._unheard: set[bytes] = set()  # connections that answered before they registered

    def unheard(self, identity: bytes) -> None:
        """A reply over this connection was dropped, since nobody knew whose it was: once it registers, whoever waits for it is told."""
        if len(self._unheard) >= UNHEARD_MAX:
            self._unheard.clear()
        self._unheard.add(identity)

    def register(self, frames: list[Opaque], sender: Sender) -> None:
        """[session, REGISTER, register]"""
        identity = frames[0]
        try:
            register = _checked(frames)
            refusal = self._gate.register(sender, register)
            if refusal is not None:
                raise refusal
            if register.v != PROTOCOL_VERSION:
                raise self._unspoken(register)
            if register.role == "bulk":
                self._register_bulk(identity, register)
            else:
                self._register_main(identity, register, sender)
        except CorralError as why:
            self._refuse(identity, why)

    def freed(self, guest: Guest) -> None:
        """The guest's session is over: a connection that waited for it gets it."""
        contender = self._contenders.pop(guest.name, None)
        if contender is not None:
            self._probes.remove(contender)
            if self._gate.speaks_for(contender.sender, guest.name):
                self._accept(guest, contender.identity, contender.register, contender.sender)

    def left(self, identity: bytes) -> None:
        """A closed connection claims no guest: a session that is silent for a moment is not ended for it."""
        self._unheard.discard(identity)
        for contender in [one for one in self._contenders.values() if one.identity == identity]:
            del self._contenders[contender.register.guest]
            self._probes.remove(contender)

    def due(self) -> None:
        """Decides where the old session had its time to show that it lives."""
        for contender in self._probes.pop_due(self._clock.now_s):
            guest = self._registry.guests[contender.register.guest]
            if guest.heard_s > contender.since_s:
                self._refuse_contender(guest)
            else:
                self._endings.gone(guest, "silent, and another worker registered")

    def next_due_s(self) -> float | None:
        return self._probes.next_due_s()

    def _unspoken(self, register: session.Register) -> CorralError:
        """The refusal of a worker that speaks another protocol. Its guest is listed with it as the reason why it is down."""
        why = error("unsupported_version", f"protocol version {register.v}; spoken here: {PROTOCOL_VERSION}", spoken=[PROTOCOL_VERSION])
        guest = self._registry.find_or_add(register.guest)
        if guest is not None and not guest.up:
            guest.version, guest.protocol, guest.labels = register.version, register.v, register.labels
            guest.reason, guest.since_ns, guest.heard_s = f"refused: {why.message}", self._clock.wall_ns, self._clock.now_s
        return why

    def _register_main(self, identity: bytes, register: session.Register, sender: Sender) -> None:
        guest = self._registry.find_or_add(register.guest)
        if guest is None:
            raise error("guest_busy", f"{len(self._registry.guests)} guests are up already")
        if guest.main is None or guest.main == identity:
            self._refuse_contender(guest)
            self._accept(guest, identity, register, sender)
        else:
            self._contend(guest, identity, register, sender)

    def _register_bulk(self, identity: bytes, register: session.Register) -> None:
        guest = self._registry.guests.get(register.guest)
        if guest is None or guest.main is None or guest.worker != register.worker or guest.main == identity:
            raise error("guest_unreachable", f"worker {register.worker} has no main session for guest {register.guest}")
        if guest.bulk != identity:
            self._endings.lost(identity, "registered anew")
            if guest.bulk is not None:
                self._endings.bulk_gone(guest, "its second connection was replaced")
            self._registry.attach(guest, identity, "bulk", self._clock.now_s)
        if identity in self._unheard:
            self._unheard.discard(identity)
            self._router.fail(guest, "its second connection was made anew", only_bulk=True)
        self._welcome(identity, guest.seen, [])

    def _contend(self, guest: Guest, identity: bytes, register: session.Register, sender: Sender) -> None:
        earlier = self._contenders.get(guest.name)
        if earlier is not None and earlier.identity == identity:
            earlier.register = register
            return
        self._refuse_contender(guest)
        self._counters.note("register_contended", f"guest {guest.name} is claimed by two connections", self._clock.now_s)
        contender = self._contenders[guest.name] = Contender(identity, register, self._clock.now_s, sender)
        self._probes.add(contender, self._clock.now_s + PROBE_S)
        if post(self._ports, guest.main, session.PLEASE_REGISTER, session.PleaseRegister()) == "gone":
            self._endings.gone(guest, "disconnected")

    def _refuse_contender(self, guest: Guest) -> None:
        contender = self._contenders.pop(guest.name, None)
        if contender is not None:
            self._probes.remove(contender)
            guest.rival_s, guest.rival_address = self._clock.now_s, contender.sender.address
            self._refuse(contender.identity, error("guest_busy", f"guest {guest.name} is served by another worker, which lives"))

    def _accept(self, guest: Guest, identity: bytes, register: session.Register, sender: Sender) -> None:
        again = guest.main == identity and guest.worker == register.worker
        if not again:
            self._endings.lost(identity, "registered anew")
        guest.worker, guest.epoch, guest.seq, guest.mark = register.worker, register.epoch, register.seq, register.mark
        guest.labels, guest.version, guest.runtime = register.labels, register.version, register.runtime
        guest.protocol, guest.load = register.v, register.load
        guest.clock_ahead_s = clock_ahead_s(register.time_ns, self._clock.wall_ns)
        guest.sender = sender
        seen = guest.seen
        if register.epoch and seen is None:  # else a heartbeat moves it on, once the worker has judged its journal by what was seen
            self._registry.see(guest, Place(epoch=register.epoch, seq=register.seq, mark=register.mark))
        self._registry.attach(guest, identity, "main", self._clock.now_s)
        if not again:
            guest.since_ns, guest.reason = self._clock.wall_ns, ""
            self._counters.add("registrations")
            self._events.guest_up(guest, self._clock.wall_ns)
        if self._welcome(identity, seen, self._announcements.at_registration(guest)) == "gone":
            self._endings.gone(guest, "disconnected")
        self._router.guest_up(guest)

    def _welcome(self, identity: bytes, seen: Place | None, prefixes: list[bytes]) -> Delivery:
        heartbeat_ms = int(HEARTBEAT_IDLE_S * 1000)
        message = session.Registered(broker=self._instance, heartbeat_ms=heartbeat_ms, seen=seen, stdio_prefixes=prefixes)
        return post(self._ports, identity, session.REGISTERED, message)

    def _refuse(self, identity: bytes, why: CorralError) -> None:
        self._counters.note("register_refused", str(why), self._clock.now_s)
        post(self._ports, identity, session.REFUSED, session.Refused(code=why.code, message=why.message))


def _checked(frames: list[Opaque]) -> session.Register:
    """Raises bad_request or message_too_large."""
    if len(frames) != 3:
        raise error("bad_request", f"register has {len(frames) - 1} frames instead of 2")
    if len(frames[2]) > SESSION_BYTES_MAX:
        raise error("message_too_large", f"register of {len(frames[2])} bytes; the limit is {SESSION_BYTES_MAX}")
    register = unpack(session.Register, frames[2], "register")
    check_guest_name(register.guest)
    if not 1 <= len(register.worker) <= WORKER_CHARS_MAX:
        raise error("bad_request", "register: worker must be the worker's instance")
    if len(register.labels) > LABELS_MAX:
        raise error("bad_request", f"register: {len(register.labels)} labels; the limit is {LABELS_MAX}")
    return register
