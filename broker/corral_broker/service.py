"""The broker's shell: six sockets, one thread, one plain poll loop around the core.

Each turn takes a bounded burst from every socket that has something, in slices of a few messages, between which commands, answers and
events on the others are served, so that none starves another; libzmq gives them from each socket's peers in turn. Workers' sessions come
before their events, since an event of a guest passes only once the guest has registered.
"""

import contextlib
import logging
import os
import secrets
import socket as os_sockets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from corral_broker.access.keyring import Keyring
from corral_broker.core import BrokerCore
from corral_broker.net.connections import Connections
from corral_broker.net.guard import Guard, KeyOptions
from corral_broker.net.sockets import Sockets
from corral_broker.net.wire import has_message, receive, receive_part, send
from corral_broker.rules.answers import Identity, package_version
from corral_broker.state.addresses import NAMES, BindAddress, SocketName
from corral_broker.state.counters import Counters
from corral_broker.state.history_file import HistoryFile, boot_id
from corral_broker.state.last_seen import LastSeenFile
from corral_broker.state.ports import Delivery, Frames, Opaque
from corral_broker.state.senders import ANYONE, Sender
from corral_schemas.events import BrokerStarted
from corral_schemas.frames import pack
from corral_schemas.memory import KeptMemory
from corral_schemas.names import new_instance
from corral_schemas.session import HEARTBEAT, HEARTBEAT_ACK, REGISTER, HeartbeatAck

if TYPE_CHECKING:
    Socket = zmq.Socket[bytes]

SLICE_MESSAGES, SLICE_BYTES, SLICE_S = 16, 256 << 10, 0.000_3
"""So much is taken from one socket before it is looked whether another has commands, answers or events, and as much is taken from each that
has: what one peer floods one socket with costs a message on another no more than the wait for a slice."""
BURST_SLICES = 8
"""Most slices of one socket in one turn."""
HEARTBEATS_GATHER_S = 0.01
"""Heartbeats of thousands of guests come one by one, all the time. While nothing else comes, and nobody waits for a guest's answer, they
are left to gather for so long: a turn for each would keep a core busy with waking up."""
LOOK_AT_ALL_S = 0.001
"""While messages come all the time it is only looked whether the prompt sockets have more, and at all the others this often."""
TURN_S_MAX = 1.0
"""Longest wait for a message."""

log = logging.getLogger(__name__)


class SocketPorts:
    """The core's ways out, onto sockets."""

    def __init__(self, sockets: Sockets, counters: Counters) -> None:
        self._counters = counters
        self._clients, self._workers = sockets.clients, sockets.workers
        self._events_out, self._stdio_out = sockets.events_out, sockets.stdio_out

    def to_client(self, frames: Frames) -> None:
        delivery = send(self._clients, frames)
        if delivery != "sent":  # it does not read, or has left; it asks again, under the same request id, when it wants to know
            self._counters.add(f"client_replies_dropped_{delivery}")

    def to_worker(self, frames: Frames) -> Delivery:
        return send(self._workers, frames)

    def publish_event(self, frames: Frames) -> None:
        send(self._events_out, frames)

    def publish_stdio(self, frames: Frames) -> None:
        send(self._stdio_out, frames)


class Service:
    """A broker that is bound; `run` serves until `stop`."""

    def __init__(
        self,
        address: BindAddress,
        *,
        advertise: str = "",
        state_dir: Path | None = None,
        about: dict[str, Any] | None = None,
        io_threads: int = 1,
        keys: KeyOptions | None = None,
    ) -> None:
        """With `keys` every socket asks for them (tcp). Raises BindError, and OSError when a directory cannot be made."""
        self._last_seen = LastSeenFile(state_dir) if state_dir is not None else None
        self._history = HistoryFile(state_dir) if state_dir is not None else None
        self._keyring = Keyring(keys.directory) if keys is not None else None
        counters = Counters()
        self._sockets = Sockets(address, io_threads, self._keyring, counters)
        self.address = self._sockets.address(advertise)
        wall_ns = time.time_ns()
        self._guard = None
        if keys is not None and self._keyring is not None:
            self._guard = Guard(self._sockets, self._keyring, keys, counters)
        self._core = BrokerCore(
            SocketPorts(self._sockets, counters),
            self._identity(advertise, wall_ns, {"address_security": self.security, **(about or {})}),
            time.monotonic(),
            wall_ns,
            secrets.randbits(63),
            counters,
            self._guard.gate if self._guard is not None else None,
            self._history.history if self._history is not None else None,
        )
        if self._last_seen is not None and self._history is not None:
            self._core.remember(self._last_seen.read(), self._history.standing)
        self._core.started(self._beginning())
        self._connections = Connections(self._sockets.monitor)
        self._waker, self._wakened = os_sockets.socketpair()
        self._waker.setblocking(False)
        self._memory = KeptMemory()
        self._stopped = False
        self._poller, self._poller_but_workers = zmq.Poller(), zmq.Poller()
        self._gathering = False  # workers' messages are heartbeats only, and come close together
        self._turned_s = 0.0  # when the last turn began
        self._looked_at_all_s = 0.0
        self._takers = self._make_takers()  # in the order in which a turn serves them
        self._publishers = (self._sockets.events_out, self._sockets.stdio_out)
        self._prompt = (self._sockets.workers, self._sockets.clients, self._sockets.events_in)  # whose messages wait for no flood elsewhere
        self._sessions_left = False  # not all was taken from the workers' sessions in this turn
        self._taken = {self._sockets.named(name): f"taken_{name}" for name in NAMES}  # socket -> counter of messages taken from it
        watched = [self._sockets.monitor] if self._guard is None else [self._guard.zap_socket]
        for pollable in (*self._takers, *watched, self._wakened):
            self._poller.register(pollable, zmq.POLLIN)
            if pollable is not self._sockets.workers:
                self._poller_but_workers.register(pollable, zmq.POLLIN)

    @property
    def is_open_to_anyone(self) -> bool:
        """Whoever can reach it is served: TCP without keys."""
        return self.security == "insecure"

    @property
    def security(self) -> str:
        """What protects the address: `curve` keys, `file permissions` of Unix sockets, or nothing (`insecure`)."""
        if not self._sockets.is_tcp:
            return "file permissions"
        return "insecure" if self._keyring is None else "curve"

    @property
    def wake_descriptor(self) -> int:
        """A byte written here ends the wait for messages; for signal.set_wakeup_fd."""
        return self._waker.fileno()

    def stop(self) -> None:
        """Ends `run` soon. May be called from a signal handler or another thread."""
        self._stopped = True
        with contextlib.suppress(OSError):  # full: the loop is being woken already; closed: it has ended
            self._waker.send(b"s")

    def run(self, turned: Callable[[], None] = lambda: None) -> None:
        """Serves until `stop`, then writes the last-seen file and closes everything. `turned` is called at least every TURN_S_MAX."""
        try:
            while not self._stopped:
                self._turn()
                turned()
            self._core.stopped(time.time_ns())
            if self._history is not None:
                self._history.sync()
        finally:
            self._save_places(time.monotonic(), at_end=True)
            self.close()

    def close(self) -> None:
        """For a service that never ran. Safe to call again."""
        if self._guard is not None:
            self._guard.close()
        if self._history is not None:
            self._history.close()
        self._sockets.close()
        self._waker.close()
        self._wakened.close()

    def _turn(self) -> None:
        ready, looked_at_sessions = self._ready()
        now_s = time.monotonic()
        self._core.begin(now_s, time.time_ns())
        if self._wakened.fileno() in ready:
            self._wakened.recv(64)
        if self._guard is not None:
            self._guard.turn(now_s, self._guard.zap_socket in ready, self._core.judge_again, self._connections.closed)
        elif self._sockets.monitor in ready:
            self._connections.read_monitor(now_s)
        self._gathering = now_s - self._turned_s < 2 * HEARTBEATS_GATHER_S and ready == {self._sockets.workers}
        self._turned_s = now_s
        self._sessions_left = not looked_at_sessions
        for socket in self._takers:
            if socket in ready:
                self._burst(socket)
        if not self._sessions_left:
            for identity in self._connections.try_suspects(now_s, self._is_gone):
                self._core.lost(identity)
        self._core.end()
        for line in self._core.counters.take_notes():
            log.warning("%s", line)
        if self._guard is not None:
            self._guard.end()
        self._memory.turn(now_s)
        self._save_places(now_s)

    def _ready(self) -> tuple[set[Any], bool]:
        """What has something to be read, waited for; and whether the workers' socket was looked at."""
        if self._gathering and not self._core.awaits_guests:
            wait_ms = min(self._wait_ms(), int(HEARTBEATS_GATHER_S * 1000))
            if ready := {pollable for pollable, _ in self._poller_but_workers.poll(wait_ms)}:
                return ready, False
        may_look_less = self._turned_s < self._looked_at_all_s + LOOK_AT_ALL_S
        if may_look_less and (ready := {socket for socket in self._prompt if has_message(socket)}):
            return ready, True
        ready = {pollable for pollable, _ in self._poller.poll(self._wait_ms())}
        self._looked_at_all_s = time.monotonic()
        return ready, True

    def _burst(self, socket: "Socket") -> None:
        """Slices of this socket, and in between of those that wait for no flood."""
        for _ in range(BURST_SLICES):
            if self._take_slice(socket):
                return
            for other in self._prompt:
                if other is not socket and has_message(other):
                    self._take_slice(other)

    def _take_slice(self, socket: "Socket") -> bool:
        """True when nothing was left."""
        take, counter = self._takers[socket], self._taken[socket]
        take_next = receive_part if socket in self._publishers else receive
        guard, is_session = self._guard, socket is self._sockets.workers
        count = bytes_taken = 0
        nothing_left = False
        end_s = time.monotonic() + SLICE_S
        while count < SLICE_MESSAGES and bytes_taken < SLICE_BYTES and (count < 2 or time.monotonic() < end_s):
            message = take_next(socket)
            if message is None:
                nothing_left = True
                break
            count += 1
            frames, last = message
            if self._gathering and frames[1:2] != [HEARTBEAT]:
                self._gathering = False
            sender = ANYONE
            if guard is not None:
                judged = guard.sender(socket, frames, last)
                if judged is None:
                    continue
                sender = judged
            if is_session and len(frames) > 1 and frames[1] == REGISTER:
                self._connections.registered(last, frames[0], time.monotonic())
            take(frames, sender)
            bytes_taken += len(frames[-1])
        if count:
            self._core.counters.add(counter, count)
            self._memory.used(bytes_taken, end_s)
        if is_session:
            self._sessions_left = not nothing_left
        return nothing_left

    def _make_takers(self) -> "dict[Socket, Callable[[list[Opaque], Sender], None]]":
        core, sockets = self._core, self._sockets
        return {
            sockets.workers: core.worker,
            sockets.clients: core.client,
            sockets.events_in: core.event,
            sockets.events_out: lambda frames, sender: core.subscription("events", frames[0]),
            sockets.stdio_out: lambda frames, sender: core.subscription("stdio", frames[0]),
            sockets.stdio_in: core.stdio,
        }

    def _wait_ms(self) -> int:
        due_s = [self._core.next_due_s(), self._connections.next_due_s()]
        if self._guard is not None:
            due_s.append(self._guard.next_due_s)
        if self._last_seen is not None and self._core.places_moved:
            due_s.append(self._last_seen.next_write_s)
        soonest_s = min((when for when in due_s if when is not None), default=None)
        if soonest_s is None:
            return int(TURN_S_MAX * 1000)
        return int(min(max(0.0, soonest_s - time.monotonic()), TURN_S_MAX) * 1000 + 0.999)

    def _is_gone(self, identity: bytes) -> bool:
        return send(self._sockets.workers, [identity, HEARTBEAT_ACK, _EMPTY_ACK]) == "gone"

    def _save_places(self, now_s: float, *, at_end: bool = False) -> None:
        if self._last_seen is None or not self._core.places_moved:
            return
        if at_end or self._core.must_write_places or now_s >= self._last_seen.next_write_s:
            self._last_seen.write(self._core.take_places(), now_s)

    def _beginning(self) -> BrokerStarted:
        if self._history is None or self._last_seen is None:
            return BrokerStarted(version=package_version(), boot=boot_id())
        alive_ns = max(self._history.written_ns, self._last_seen.written_ns)
        return BrokerStarted(version=package_version(), previous=self._history.previous, alive_ns=alive_ns, boot=boot_id())

    def _identity(self, advertise: str, wall_ns: int, about: dict[str, Any]) -> Identity:
        def told(name: SocketName) -> str:
            place = self._sockets.port_or_suffix(name)
            return f"tcp://{advertise}:{place}" if advertise and self._sockets.is_tcp else place

        return Identity(
            instance=new_instance(wall_ns, secrets.token_bytes(10)),
            epoch=secrets.token_hex(8),
            started_ns=wall_ns,
            workers=told("workers"),
            events_in=told("events_in"),
            events_out=told("events_out"),
            stdio_in=told("stdio_in"),
            stdio_out=told("stdio_out"),
            about={"pid": os.getpid(), "address": self.address, **about},
        )


_EMPTY_ACK = pack(HeartbeatAck())
