"""Keys at the sockets: who sent each message, and what happens when keys change while peers are connected."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from corral_broker.access.audit import Audit
from corral_broker.access.gate import KeyGate
from corral_broker.access.keyring import Keyring
from corral_broker.access.quotas import Flooding
from corral_broker.net.peers import CONNECTIONS_PER_ADDRESS_MAX, Peers
from corral_broker.net.sockets import Sockets
from corral_broker.state.addresses import NAMES, SocketName
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.ports import Opaque
from corral_broker.state.senders import Sender
from corral_schemas.keyfiles import fingerprint

if TYPE_CHECKING:
    Socket = zmq.Socket[bytes]

LOOK_INTERVAL_S = 0.25
"""Between two looks at connections and keys; fewer, since none of it belongs to a message's way."""
ROUTING_ID_BYTES = 5
"""Routing ids that libzmq gives are five bytes, the first of them zero."""


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """How a broker serves with keys."""

    directory: Path
    audit_log: Path | None = None
    connections_per_address_max: int = CONNECTIONS_PER_ADDRESS_MAX


class Guard:
    """Belongs to the loop's thread."""

    def __init__(self, sockets: Sockets, keyring: Keyring, options: KeyOptions, counters: Counters) -> None:
        """Raises OSError when the audit log cannot be opened."""
        assert sockets.zap is not None
        self._zap = sockets.zap
        self._quotas = sockets.quotas
        # sockets from which a key that floods is turned away for a while
        self._flooded: dict[Socket, SocketName] = {sockets.clients: "clients", sockets.workers: "workers", sockets.events_in: "events_in"}
        self._events_in = sockets.events_in
        self._now_s = 0.0
        self._routers = (sockets.clients, sockets.workers)
        self._publishers = (sockets.events_out, sockets.stdio_out)
        self._keyring = keyring
        self._counters = counters
        self._audit = Audit(options.audit_log)
        ports = {name: int(sockets.port_or_suffix(name)) for name in NAMES}
        self._peers = Peers(sockets.monitors, ports, counters, options.connections_per_address_max)
        self.next_due_s = 0.0

    @property
    def zap_socket(self) -> "Socket":
        """Readable when libzmq asks whom to let in."""
        return self._zap.socket

    def gate(self, clock: Clock) -> KeyGate:
        """The core's rules about keys."""
        return KeyGate(self._keyring, self._audit, self._counters, clock, self._quotas)

    def turn(self, now_s: float, asked: bool, judge_again: Callable[[], None], worker_closed: Callable[[int, float], None]) -> None:
        """What begins a turn: handshakes where libzmq asked about some, and now and then a look at keys and connections."""
        self._now_s = now_s
        if not asked and now_s < self.next_due_s:
            return
        self._zap.answer_all(now_s)

        def on_closed(name: SocketName, descriptor: int) -> None:
            if name == "workers":
                worker_closed(descriptor, now_s)

        self._peers.read_monitors(now_s, on_closed)
        if now_s < self.next_due_s:
            return
        self.next_due_s = now_s + LOOK_INTERVAL_S
        if self._keyring.refresh(now_s, time.time()):
            cut = self._peers.cut(lambda name, sender: sender.key in self._keyring.withdrawn or bool(self._zap.refusal(name, sender.key)))
            if cut:
                self._counters.add("connections_cut", cut)
            judge_again()
        self._peers.cut_strangers(lambda sender: self._keyring.grant(sender.key) is not None, now_s)

    def end(self) -> None:
        """What ends a turn."""
        for flooding in self._quotas.take_flooding():
            self._turn_away(flooding)
        self._audit.flush()

    def sender(self, socket: "Socket", frames: list[Opaque], last: zmq.Frame) -> Sender | None:
        """Who sent this message; None when it is not to be taken, whoever sent it."""
        if socket in self._routers and (len(frames[0]) != ROUTING_ID_BYTES or frames[0][0]):
            # A peer that names itself could come back under the name of one that left, and get its replies.
            self._counters.note("identity_claimed", f"{frames[0][:40]!r}", self.next_due_s)
            self._peers.cut_one(last)
            return None
        sender = self._peers.sender(last)
        if self._keyring.is_revoked(sender.key):  # silent until now, so that nobody knew whose connection it was
            self._counters.add("revoked_cut")
            self._peers.cut_one(last)
            return None
        if socket in self._flooded and not self._may_pass(socket, sender):
            return None
        if socket in self._publishers:
            self._peers.subscribed(last, sender, frames[0], self.next_due_s)
        return sender

    def _may_pass(self, socket: "Socket", sender: Sender) -> bool:
        """Before anything is decoded: a flood is to cost as little as can be."""
        if self._quotas.is_away(self._flooded[socket], sender.key, self._now_s):
            self._counters.add("flood_dropped")
            return False
        if socket is not self._events_in:
            return True
        grant = self._keyring.grant(sender.key)
        if grant is None or self._quotas.passes("events_in", sender.key, grant, self._now_s):
            return True
        self._counters.note("event_over_rate", f"{grant.name} from {sender.address}", self._now_s)
        return False

    def _turn_away(self, flooding: Flooding) -> None:
        """The connections by which it floods are cut; its others stay."""
        count = self._peers.cut(lambda name, sender: sender.key == flooding.key and name == flooding.socket)
        grant = self._keyring.grant(flooding.key)
        who = grant.name if grant is not None else fingerprint(flooding.key)
        self._counters.note("flood_cut", f"{who}: {count} connections to {flooding.socket}, for {flooding.away_s:g} s", self._now_s)

    def close(self) -> None:
        self._audit.close()
