"""The exchange's rules: which events and which stdio pass from guests to subscribers, and what a subscription sets off.

An event passes only from the worker instance that is registered for the guest it names, under the topic its header spells. Whatever is
dropped here is in that guest's journal: a reader sees the hole and asks for it.
"""

from collections.abc import Callable
from typing import Literal

from corral_broker.access.gate import Gate
from corral_broker.state.counters import Counters
from corral_broker.state.guest import Guest
from corral_broker.state.ports import Frames, Opaque
from corral_broker.state.registry import Registry
from corral_broker.state.senders import Sender
from corral_broker.state.subscriptions import StdioSubscriptions
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError
from corral_schemas.events import BROKER_KINDS, mark_of
from corral_schemas.frames import decode_event_header, decode_stdio_header
from corral_schemas.limits import EVENT_BYTES_MAX, STDIO_CHUNK_BYTES_MAX
from corral_schemas.topics import NONCE, event_topic, stdio_topic

Pair = Literal["events", "stdio"]


class Exchange:
    """No sockets: message in, message or nothing out."""

    def __init__(
        self, registry: Registry, subscriptions: StdioSubscriptions, counters: Counters, on_change: Callable[[str], None], gate: Gate
    ) -> None:
        """Keeps `subscriptions`; `on_change` is called with the guest (or `*`) whose stdio subscriptions changed."""
        self._registry = registry
        self._counters = counters
        self._on_change = on_change
        self._subscriptions = subscriptions
        self._gate = gate

    def event(self, frames: list[Opaque], now_s: float, sender: Sender) -> Frames | None:
        """[topic, header, payload] → the same, or None where it does not pass."""
        try:
            if len(frames) != 3 or len(frames[2]) > EVENT_BYTES_MAX:
                self._drop("event_malformed", f"{len(frames)} frames of {[len(frame) for frame in frames]} bytes", now_s)
                return None
            header = decode_event_header(frames[1])
        except CorralError as why:
            self._drop("event_malformed", why.message, now_s)
            return None
        if frames[0] != event_topic(header.guest, header.kind, header.container, header.process) or header.kind in BROKER_KINDS:
            self._drop("event_refused", f"topic {frames[0][:200]!r} is not for an event of {header.guest[:80]!r}", now_s)
            return None
        guest = self._speaker(header.guest, header.worker, "event", now_s, sender)
        if guest is None:
            return None
        if header.epoch == guest.epoch and header.seq > guest.seq:
            guest.seq, guest.mark = header.seq, mark_of(header)
            if guest.seen is None or guest.seen.epoch == header.epoch:  # another epoch counts once a heartbeat has stated it
                self._registry.see(guest, Place(epoch=header.epoch, seq=header.seq, mark=guest.mark))
        self._counters.add("events")
        return frames

    def stdio(self, frames: list[Opaque], now_s: float, sender: Sender) -> Frames | None:
        """[topic, header, bytes] → the same, or None where it does not pass."""
        try:
            if len(frames) != 3 or len(frames[2]) > STDIO_CHUNK_BYTES_MAX:
                self._drop("stdio_malformed", f"{len(frames)} frames of {[len(frame) for frame in frames]} bytes", now_s)
                return None
            header = decode_stdio_header(frames[1])
        except CorralError as why:
            self._drop("stdio_malformed", why.message, now_s)
            return None
        if frames[0] != stdio_topic(header.guest, header.container, header.process, header.stream):
            self._drop("stdio_refused", f"topic {frames[0][:200]!r} is not for stdio of {header.guest[:80]!r}", now_s)
            return None
        if self._speaker(header.guest, header.worker, "stdio", now_s, sender) is None:
            return None
        self._counters.add("stdio")
        self._counters.add("stdio_bytes", len(frames[2]))
        return frames

    def subscription(self, pair: Pair, frame: Opaque, now_s: float) -> Frames | None:
        """What an XPUB hands up: a subscription's first, or last, subscriber. Returns what to publish on that pair."""
        if len(frame) == 0 or frame[:1] not in (b"\x00", b"\x01"):
            self._drop("subscription_malformed", f"{len(frame)} bytes that are no subscription", now_s)
            return None
        subscribed, prefix = frame[:1] == b"\x01", bytes(frame[1:])
        if prefix.startswith(NONCE):
            return [prefix, b"", b""] if subscribed else None
        if pair == "stdio":
            concerned = self._subscriptions.change(prefix, subscribed)
            if concerned is not None:
                self._on_change(concerned)
        return None

    def _speaker(self, name: str, worker: str, what: Literal["event", "stdio"], now_s: float, sender: Sender) -> Guest | None:
        if not self._gate.speaks_for(sender, name):
            self._drop(f"{what}_unauthorized", f"the key behind it is not that of guest {name[:80]!r}", now_s)
            return None
        guest = self._registry.guests.get(name)
        if guest is None or guest.main is None or guest.worker != worker:
            self._drop(f"{what}_unregistered", f"worker {worker[:40]!r} is not registered for guest {name[:80]!r}", now_s)
            return None
        return guest

    def _drop(self, reason: str, what: str, now_s: float) -> None:
        self._counters.note(reason, what, now_s)
