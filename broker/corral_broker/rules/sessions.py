"""Messages of workers: to whom each belongs, heartbeats, goodbyes, and silence.

A session is a connection, and a guest belongs to the connection that registered for it, whatever a message claims. It ends by a goodbye,
when its connection is seen to be closed, or after GUEST_DOWN_S of silence; a message of a connection that has no session is answered
please_register.
"""

from corral_broker.access.gate import Gate
from corral_broker.rules.endings import Endings
from corral_broker.rules.registration import SESSION_BYTES_MAX, Registration
from corral_broker.rules.router import Router
from corral_broker.rules.stdio_announcements import StdioAnnouncements
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.events import BrokerEvents
from corral_broker.state.guest import Guest
from corral_broker.state.guest_warnings import clock_ahead_s
from corral_broker.state.ports import Opaque, Ports, post
from corral_broker.state.registry import Registry
from corral_broker.state.senders import Sender
from corral_schemas import session
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import unpack

REASON_CHARS_MAX = 200


class Sessions:
    """No sockets: frames in, frames out through `ports`."""

    def __init__(
        self,
        ports: Ports,
        registry: Registry,
        router: Router,
        events: BrokerEvents,
        registration: Registration,
        announcements: StdioAnnouncements,
        endings: Endings,
        counters: Counters,
        clock: Clock,
        gate: Gate,
    ) -> None:
        self._ports = ports
        self._registry = registry
        self._router = router
        self._events = events
        self._registration = registration
        self._announcements = announcements
        self._endings = endings
        self._counters = counters
        self._clock = clock
        self._gate = gate

    def message(self, frames: list[Opaque], sender: Sender) -> None:
        """[session, kind, …] from a worker."""
        kind = frames[1] if len(frames) > 1 else b""
        if kind != session.REPLY and not self._gate.unasked(sender):
            return
        if len(frames) < 2:
            self._malformed("a message without a kind")
            return
        identity = frames[0]
        if kind == session.REGISTER:
            self._registration.register(frames, sender)
            return
        known = self._registry.session(identity)
        if known is None:
            self._stranger(identity, kind)
            return
        guest, role = known
        if not self._gate.speaks_for(sender, guest.name):
            self._counters.note("session_unauthorized", f"{kind[:40]!r} for {guest.name} by a key that is not its own", self._clock.now_s)
            return
        if role == "main":
            guest.heard_s = self._clock.now_s
        if kind == session.REPLY:
            self._router.reply(guest, frames)
        elif kind == session.HEARTBEAT and role == "main":
            self._heartbeat(guest, frames)
        elif kind == session.GOODBYE:
            self._goodbye(guest, role, frames)
        else:
            self._malformed(f"kind {kind[:40]!r} from a {role} session of {guest.name}")

    def due(self) -> None:
        """Ends sessions that fell silent."""
        for guest in self._registry.pop_silent(self._clock.now_s):
            self._endings.gone(guest, "silent")

    def next_due_s(self) -> float | None:
        return self._registry.next_look_s()

    def _heartbeat(self, guest: Guest, frames: list[Opaque]) -> None:
        try:
            heartbeat = unpack(session.Heartbeat, _only_body(frames), "heartbeat")
        except CorralError as why:
            self._malformed(f"{guest.name}: {why.message}")
            return
        guest.epoch, guest.seq, guest.mark, guest.load = heartbeat.epoch, heartbeat.seq, heartbeat.mark, heartbeat.load
        guest.clock_ahead_s = clock_ahead_s(heartbeat.time_ns, self._clock.wall_ns)
        if heartbeat.epoch:
            # By now the worker has judged its journal against `seen`: an epoch it states here is the guest's present one.
            self._registry.see(guest, Place(epoch=heartbeat.epoch, seq=heartbeat.seq, mark=heartbeat.mark))
        self._events.beacon(guest, heartbeat, self._clock.wall_ns)
        self._announcements.answer_heartbeat(guest, heartbeat.stdio_hash)

    def _goodbye(self, guest: Guest, role: str, frames: list[Opaque]) -> None:
        if role == "bulk":
            self._registry.detach_bulk(guest)
            return
        try:
            said = unpack(session.Goodbye, _only_body(frames), "goodbye").reason[:REASON_CHARS_MAX]
        except CorralError as why:
            self._malformed(f"{guest.name}: {why.message}")
            said = ""
        self._endings.gone(guest, f"said goodbye: {said}" if said else "said goodbye")

    def _stranger(self, identity: bytes, kind: Opaque) -> None:
        if kind in (session.HEARTBEAT, session.REPLY):
            what = f"{bytes(kind).decode()} from a connection that has not registered"
            self._counters.note("strangers_asked_to_register", what, self._clock.now_s)
            if kind == session.REPLY:
                self._registration.unheard(identity)
            post(self._ports, identity, session.PLEASE_REGISTER, session.PleaseRegister())
        elif kind != session.GOODBYE:
            self._malformed(f"kind {kind[:40]!r} from a connection that has not registered")

    def _malformed(self, what: str) -> None:
        self._counters.note("session_malformed", what, self._clock.now_s)


def _only_body(frames: list[Opaque]) -> Opaque:
    """The third of three frames. Raises bad_request or message_too_large."""
    if len(frames) != 3:
        raise error("bad_request", f"{len(frames) - 1} frames instead of 2")
    if len(frames[2]) > SESSION_BYTES_MAX:
        raise error("message_too_large", f"{len(frames[2])} bytes; the limit is {SESSION_BYTES_MAX}")
    return frames[2]
