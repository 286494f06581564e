"""The connections themselves: which key is behind each, how many an address holds, and cutting them.

libzmq offers no way to close one peer's connection. But the descriptors are this process's own, each message tells the one it came in by,
and shutting a descriptor down is to libzmq as if the other end had closed: it cleans up, and the peer that dials again is judged anew.
"""

import contextlib
import os
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator

import zmq
from zmq.utils.monitor import parse_monitor_message

from corral_broker.access.subscribers import SUBSCRIBED_BYTES_PER_KEY_MAX, Subscribers
from corral_broker.net.handshakes import PENDING_MAX, PENDING_PER_ADDRESS_MAX, PendingHandshakes
from corral_broker.state.addresses import SocketName
from corral_broker.state.counters import Counters
from corral_broker.state.senders import NOBODY, Sender
from corral_schemas.keyfiles import fingerprint

CONNECTIONS_PER_ADDRESS_MAX = 1_024
DESCRIPTORS_RESERVED = 256
"""Of the descriptors that the process may have, for everything but connections: with none left, libzmq could accept nobody."""
SPEAKING: tuple[SocketName, ...] = ("clients", "workers", "events_out", "stdio_out")
"""Sockets to which nobody connects without saying something: a command, a registration, a subscription."""
SILENT_S = 10.0
"""A connection to one of them that has said nothing for so long is cut: nobody knows whose it is."""
STRANGER_BYTES_MAX = 1 << 20
"""What a connection may send before an accepted key is known behind it: a register with its token is far smaller."""
_BYTES_RECEIVED = struct.Struct("<128xQ")  # tcpi_bytes_received in struct tcp_info
_TCP_INFO_BYTES = 192


class Peers:
    """Connections of one broker's sockets, by descriptor."""

    def __init__(
        self, monitors: "dict[SocketName, zmq.Socket[bytes]]", ports: dict[SocketName, int], counters: Counters, per_address_max: int
    ) -> None:
        self._monitors = monitors
        self._ports = ports
        self._counters = counters
        self._per_address_max = per_address_max
        self._open: dict[int, tuple[SocketName, str, float]] = {}  # descriptor -> socket, address of the peer, since when
        self._per_address: Counter[str] = Counter()
        self._senders: dict[str, Sender] = {}  # descriptor, as messages tell it -> who sent by it last
        self._subscribers = Subscribers()
        self._pending = PendingHandshakes()
        self._connections_max = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS_RESERVED)

    def sender(self, frame: zmq.Frame) -> Sender:
        """Who sent the message that this frame is of; NOBODY for the end of a subscription whose connection is gone."""
        try:
            key, descriptor = frame.get("User-Id"), str(frame.get("__fd"))
        except zmq.ZMQError:
            return NOBODY
        known = self._senders.get(descriptor)
        if known is None or known.key != key:  # descriptors are reused: the key on the message decides
            known = self._senders[descriptor] = Sender(str(key), str(frame.get("Peer-Address")))
        return known

    def subscribed(self, last: zmq.Frame, sender: Sender, frame: bytes, now_s: float) -> None:
        """A subscription, or the end of one. A key that has too many loses the connections it has them by, and may begin anew."""
        if sender is NOBODY or not self._subscribers.changed(str(last.get("__fd")), sender.key, frame):
            return
        count = self.cut(lambda name, one: one.key == sender.key and name in ("events_out", "stdio_out"))
        what = f"{fingerprint(sender.key)} from {sender.address}: {count} connections, over {SUBSCRIBED_BYTES_PER_KEY_MAX} bytes"
        self._counters.note("subscribers_cut", what, now_s)

    def read_monitors(self, now_s: float, on_closed: Callable[[SocketName, int], None]) -> None:
        """Keeps account of connections; those beyond what an address may hold are cut.

        To be called whenever handshakes were asked about, before messages are taken: no message comes by a connection whose handshake was
        not answered here, and libzmq tells of a connection (and of the end of the one before it) ahead of its handshake. So whatever a
        descriptor brings is of the connection that is known here under it.
        """
        for name, monitor in self._monitors.items():
            while True:
                try:
                    event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
                except zmq.Again:
                    break
                descriptor = int(event["value"])
                if event["event"] == zmq.EVENT_ACCEPTED:
                    self._accepted(name, descriptor, now_s)
                elif event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._pending.ended(descriptor)
                else:
                    if self._open.get(descriptor, (name,))[0] == name:  # else another socket's monitor was read first
                        self._closed(descriptor)
                    on_closed(name, descriptor)
        for descriptor, address in self._pending.take_stalled():
            what = f"{address}: over {PENDING_PER_ADDRESS_MAX} of one address, or {PENDING_MAX}, have not shown their key yet"
            self._counters.note("handshake_pending_cut", what, now_s)
            self._shut(descriptor)

    def cut(self, is_out: Callable[[SocketName, Sender], bool]) -> int:
        """Cuts every connection whose last sender is out. Returns how many."""
        count = 0
        for descriptor, sender in list(self._senders.items()):
            there = self._open.get(int(descriptor))
            if there is not None and is_out(there[0], sender):
                count += self._shut(int(descriptor))
        return count

    def cut_one(self, frame: zmq.Frame) -> None:
        """Cuts the connection this frame came by."""
        with contextlib.suppress(zmq.ZMQError):  # it knows no connection: there is none to cut
            self._shut(int(frame.get("__fd")))

    def cut_strangers(self, is_known: Callable[[Sender], bool], now_s: float) -> None:
        """Cuts connections that send much without an accepted key behind them: libzmq keeps an unfinished message of any length."""
        for descriptor, (name, address, since_s) in list(self._open.items()):
            sender = self._senders.get(str(descriptor))
            if sender is None and name in SPEAKING and now_s - since_s > SILENT_S:
                self._counters.note("silent_cut", f"{name} from {address}: no message within {SILENT_S:g} s", now_s)
                self._shut(descriptor)
            elif (sender is None or not is_known(sender)) and name in ("clients", "workers") and _received(descriptor) > STRANGER_BYTES_MAX:
                self._counters.note("stranger_cut", f"{name} from {address}: over {STRANGER_BYTES_MAX} bytes", now_s)
                self._shut(descriptor)

    def _accepted(self, name: SocketName, descriptor: int, now_s: float) -> None:
        self._closed(descriptor)
        address = _peer_address(descriptor)
        if address is None:  # it is gone already, and its end is the next thing the monitor tells
            return
        self._open[descriptor] = (name, address, now_s)
        self._per_address[address] += 1
        if self._per_address[address] > self._per_address_max:
            self._counters.note("connection_cut", f"{address} holds {self._per_address[address]} connections", now_s)
            self._shut(descriptor)
            return
        if len(self._open) > self._connections_max:
            self._counters.note("connection_cut", f"{address}: {len(self._open)} connections, as many as descriptors allow", now_s)
            self._shut(descriptor)
            return
        self._pending.begun(descriptor, address)

    def _closed(self, descriptor: int) -> None:
        self._pending.ended(descriptor)
        self._senders.pop(str(descriptor), None)
        self._subscribers.closed(str(descriptor))
        there = self._open.pop(descriptor, None)
        if there is not None:
            self._per_address[there[1]] -= 1
            if not self._per_address[there[1]]:
                del self._per_address[there[1]]

    def _shut(self, descriptor: int) -> bool:
        """Shuts the connection down, if the descriptor still is one of the broker's: it may be something else's by now."""
        with _borrowed(descriptor) as connection:
            if connection is None or connection.getsockname()[1] not in self._ports.values():
                return False
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # not connected any more
                return False
        return True


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """The TCP connection behind a descriptor that libzmq owns, under a number of our own; None where there is none."""
    try:
        connection = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        yield None
        return
    with connection:
        yield connection if connection.family in (socket.AF_INET, socket.AF_INET6) else None


def _peer_address(descriptor: int) -> str | None:
    with _borrowed(descriptor) as connection:
        try:
            return str(connection.getpeername()[0]) if connection is not None else None
        except OSError:
            return None


def _received(descriptor: int) -> int:
    with _borrowed(descriptor) as connection:
        if connection is None:
            return 0
        try:
            told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return 0
    return int(_BYTES_RECEIVED.unpack_from(told)[0]) if len(told) >= _BYTES_RECEIVED.size else 0
