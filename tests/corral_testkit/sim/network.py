"""The simulated network: message connections that deliver late, break, stand half-open behind a partition, and are made anew."""

from __future__ import annotations

import contextvars
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from corral_testkit.sim.loop import SimLoop
from corral_testkit.sim.process import Host, Process

PING_SILENT_S = 6.0
"""ZMTP heartbeats: whoever pings breaks a connection after this silence."""
KEEPALIVE_S = 25.0
RECONNECT_S, RECONNECT_MAX_S = 0.05, 1.0
RETRANSMIT_S_MAX = 4.0

Frames = list[bytes]
Direction = Literal["up", "down"]
"""Towards the listener, towards the dialler."""
OnDelivery = Callable[[str, str, Frames], None]
"""(from, to, frames): told of every message that arrives."""


class Listener:
    """A bound socket of a broker."""

    def __init__(self, process: Process, address: str, *, pings: bool) -> None:
        self.process, self.address, self.pings = process, address, pings
        self.on_open: Callable[[Connection], None] = lambda connection: None
        self.on_message: Callable[[Connection, Frames], None] = lambda connection, frames: None
        self.on_closed: Callable[[Connection], None] = lambda connection: None


@dataclass(eq=False)
class _Way:
    """One direction of a connection: FIFO."""

    sender: str
    receiver: str
    context: contextvars.Context
    """The receiver's."""
    flying: deque[tuple[Any, Frames | None]] = field(default_factory=deque)  # (timer, frames); None ends the connection
    held: deque[Frames | None] = field(default_factory=deque)  # behind a partition
    last_s: float = 0.0
    closed: bool = False


class Connection:
    """Between a dialling socket and a listener. Either end can be gone without the other knowing yet."""

    def __init__(self, network: Network, dialler: Dialler, listener: Listener, identity: bytes) -> None:
        self.network, self.dialler, self.listener, self.identity = network, dialler, listener, identity
        self.dialler_open = self.listener_open = True
        self.hosts = frozenset((dialler.process.host.name, listener.process.host.name))
        low, high = dialler.process, listener.process
        self._up, self._down = _Way(low.name, high.name, high.context), _Way(high.name, low.name, low.context)

    def send_up(self, frames: Sequence[bytes]) -> None:
        self._send(self._up, list(frames))

    def send_down(self, frames: Sequence[bytes]) -> None:
        self._send(self._down, list(frames))

    def _send(self, way: _Way, frames: Frames | None) -> None:
        if way.closed:
            return
        way.closed = frames is None
        if self.network.cuts and self.network.is_cut(self.hosts, "up" if way is self._up else "down"):
            way.held.append(frames)
        else:
            self._fly(way, frames)

    def _fly(self, way: _Way, frames: Frames | None) -> None:
        loop = self.network.loop
        arrives_s = loop.time() + self.network.delay_s(self.hosts)
        if arrives_s > way.last_s:
            way.last_s = arrives_s
        way.flying.append((loop.call_at(way.last_s, self._arrived, way, context=way.context), frames))

    def healed(self) -> None:
        """What was held comes when its sender tries again, which it does ever more rarely: connections made meanwhile may be faster."""
        for way in (self._up, self._down):
            if way.held:
                way.last_s = self.network.loop.time() + RETRANSMIT_S_MAX * self.network.randomness.random() ** 2
            while way.held:
                self._fly(way, way.held.popleft())

    def _arrived(self, way: _Way) -> None:
        """In the receiver's context: the loop keeps it back while the receiver stands still."""
        frames = way.flying.popleft()[1]
        upwards = way is self._up
        if not (self.listener_open if upwards else self.dialler_open):
            return
        if frames is None:
            (self.listener_gone if upwards else self.dialler_gone)()
            return
        self.network.on_delivery(way.sender, way.receiver, frames)
        if upwards:
            self.listener.on_message(self, frames)
        else:
            self.dialler.on_frames(frames)

    # -- ends ------------------------------------------------------------------------------------------------------------------

    def dialler_gone(self) -> None:
        """The dialling end closes (or was closed under it); what it had sent may or may not arrive."""
        if not self.dialler_open:
            return
        self.dialler_open = False
        self._lose_some(self._up)
        self._send(self._up, None)
        self.network.forget_if_over(self)
        self.dialler.broke(self)

    def dialler_vanished(self) -> None:
        """Its machine lost its power: nobody is told, and the listening end stands until its keepalive runs out."""
        if self.dialler_open:
            self.dialler_open = False
            self._up.closed = True
            for timer, _ in self._up.flying:
                timer.cancel()
            self.network.loop.call_later(KEEPALIVE_S, self.listener_gone, context=self.network.context)

    def listener_gone(self) -> None:
        """Likewise the listening end."""
        if not self.listener_open:
            return
        self.listener_open = False
        self._lose_some(self._down)
        self._send(self._down, None)
        self.network.forget_if_over(self)
        if self.listener.process.alive:
            self.listener.on_closed(self)

    def _lose_some(self, way: _Way) -> None:
        """What still lay in the sender's own buffers is lost: a random rest of what was not delivered."""
        everything = len(way.flying) + len(way.held)
        lost = self.network.randomness.randint(0, everything)
        while lost and way.held:
            way.held.pop()
            lost -= 1
        while lost and way.flying:
            timer, _ = way.flying.pop()
            timer.cancel()
            lost -= 1


class Dialler:
    """A socket that connects, and connects again, to one address."""

    def __init__(self, network: Network, process: Process, address: str) -> None:
        self.network, self.process, self.address = network, process, address
        self.connection: Connection | None = None
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None
        self.on_frames: Callable[[Frames], None] = lambda frames: None
        self.on_connecting: Callable[[Connection], None] = lambda connection: None
        self._closed = False
        self._wait_s = RECONNECT_S
        process.on_death.append(self.close)
        process.call_soon(self._dial)

    def _dial(self) -> None:
        """Two ways to and fro until both have greeted."""
        if not self._closed and self.connection is None:
            hosts = frozenset((self.process.host.name, self.network.host_of(self.address)))
            self.process.call_later(2 * self.network.delay_s(hosts), self._try)

    def _try(self) -> None:
        if self._closed or self.connection is not None:
            return
        listener = self.network.listeners.get(self.address)
        if (
            listener is None
            or not listener.process.alive
            or listener.process.frozen
            or self.network.is_cut_between(self.process.host, listener)
        ):
            self.process.call_later(self._wait_s, self._dial)
            self._wait_s = min(2 * self._wait_s, RECONNECT_MAX_S)
            return
        self._wait_s = RECONNECT_S
        self.connection = self.network.open(self, listener)
        self.on_connecting(self.connection)
        self.on_up()

    def send(self, frames: Sequence[bytes]) -> bool:
        if self.connection is None or self._closed:
            return False
        self.connection.send_up(frames)
        return True

    def broke(self, connection: Connection) -> None:
        if self.connection is connection:
            self.connection = None
            if not self._closed and self.process.alive:
                self.process.call_soon(self.on_down)
                self.process.call_later(self._wait_s, self._dial)

    def close(self) -> None:
        self._closed = True
        if self.connection is not None:
            self.connection.dialler_gone()


class Network:
    """All connections, and what is wrong with the lines between hosts."""

    def __init__(self, loop: SimLoop, randomness: random.Random) -> None:
        self.loop, self.randomness = loop, randomness
        self.context = contextvars.Context()  # nobody's: what is on its way is not stopped by its sender's end
        self.listeners: dict[str, Listener] = {}
        self.connections: dict[Connection, None] = {}
        self.on_delivery: OnDelivery = lambda sender, receiver, frames: None
        self.slow: dict[frozenset[str], float] = {}  # hosts -> longest delay, seconds
        self.cuts: dict[frozenset[str], tuple[float, Direction | None]] = {}  # hosts -> since when, and which way alone
        self._identities = 0

    def delay_s(self, hosts: frozenset[str]) -> float:
        return self.randomness.random() * self.slow.get(hosts, 0.002) + 0.000_05

    def is_cut(self, hosts: frozenset[str], direction: Direction) -> bool:
        cut = self.cuts.get(hosts)
        return cut is not None and cut[1] in (None, direction)

    def is_cut_between(self, host: Host, listener: Listener) -> bool:
        return frozenset((host.name, listener.process.host.name)) in self.cuts

    @staticmethod
    def host_of(address: str) -> str:
        return address.removeprefix("tcp://").partition(":")[0]

    def listen(self, listener: Listener) -> None:
        self.listeners[listener.address] = listener

    def open(self, dialler: Dialler, listener: Listener) -> Connection:
        self._identities += 1
        connection = Connection(self, dialler, listener, b"\0" + self._identities.to_bytes(4, "big"))
        self.connections[connection] = None
        listener.process.call_soon(listener.on_open, connection)
        return connection

    def forget_if_over(self, connection: Connection) -> None:
        if not connection.dialler_open and not connection.listener_open:
            self.connections.pop(connection, None)

    def listeners_of(self, process: Process) -> None:
        """The process died: its connections close."""
        for connection in list(self.connections):
            if connection.listener.process is process:
                connection.listener_gone()

    def power_lost(self, process: Process) -> None:
        """The machine of a process that dials went dark."""
        for connection in list(self.connections):
            if connection.dialler.process is process:
                connection.dialler_vanished()

    def break_between(self, hosts: frozenset[str]) -> None:
        """Every connection between two hosts is reset; both ends learn of it."""
        for connection in list(self.connections):
            if connection.hosts == hosts:
                connection.dialler_gone()

    def cut(self, hosts: frozenset[str], direction: Direction | None = None) -> None:
        """Nothing passes any more (or one way alone), and nobody is told; pings run out after a while."""
        if hosts in self.cuts:
            return
        since_s = self.loop.time()
        self.cuts[hosts] = (since_s, direction)
        wait_s = PING_SILENT_S + 2 * self.randomness.random()
        self.loop.call_later(wait_s, self._pings_ran_out, hosts, since_s, context=self.context)
        self.loop.call_later(KEEPALIVE_S, self._keepalive_ran_out, hosts, since_s, context=self.context)

    def heal(self, hosts: frozenset[str]) -> None:
        if self.cuts.pop(hosts, None) is not None:
            for connection in list(self.connections):
                if connection.hosts == hosts:
                    connection.healed()

    def _pings_ran_out(self, hosts: frozenset[str], since_s: float) -> None:
        if self._is_cut_since(hosts, since_s):
            for connection in list(self.connections):
                if connection.hosts == hosts:
                    connection.dialler_gone()
                    if connection.listener.pings:
                        connection.listener_gone()

    def _keepalive_ran_out(self, hosts: frozenset[str], since_s: float) -> None:
        if self._is_cut_since(hosts, since_s):
            for connection in list(self.connections):
                if connection.hosts == hosts:
                    connection.listener_gone()

    def _is_cut_since(self, hosts: frozenset[str], since_s: float) -> bool:
        return hosts in self.cuts and self.cuts[hosts][0] == since_s

    def unanswered_by(self, process: Process) -> None:
        """A listening process stands still: whoever pings it gives the connection up."""
        if process.frozen and process.alive:
            for connection in list(self.connections):
                if connection.listener.process is process:
                    connection.dialler_gone()

    def frozen_too_long(self, process: Process) -> None:
        """A process that stood still longer than its pings allow finds its connections broken when it goes on."""
        for connection in list(self.connections):
            if connection.dialler.process is process:
                connection.dialler_gone()
