"""A broker: the real core between simulated sockets. It can be killed and started again; all that lasts is its last-seen file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from corral_broker.core import BrokerCore
from corral_broker.rules.answers import Identity
from corral_broker.rules.exchange import Pair
from corral_broker.state.ports import Delivery
from corral_schemas.cursor import Place
from corral_schemas.frames import decode_command_header, pack
from corral_schemas.names import new_instance
from corral_schemas.session import COMMAND, REGISTERED
from corral_testkit.sim.network import Connection, Frames, Listener, Network
from corral_testkit.sim.owners import Owners
from corral_testkit.sim.patches import wall_ns
from corral_testkit.sim.process import Host, Process

PORTS = {"clients": 7700, "workers": 7701, "events_in": 7702, "events_out": 7703, "stdio_in": 7704, "stdio_out": 7705}
UNKNOWN_TO_WORKER_S = 1.0
"""So long after its registration a worker may not have heard of it: what it sends is meant for the broker before."""
SAVE_S = 1.0


class _Publisher:
    """An XPUB: who is subscribed to what, and the first and last subscriber told upwards."""

    def __init__(self, broker: SimBroker, pair: Pair) -> None:
        self._broker, self._pair = broker, pair
        self._prefixes: dict[bytes, list[Connection]] = {}

    def message(self, connection: Connection, frames: Frames) -> None:
        prefix, subscribed = frames[0][1:], frames[0][:1] == b"\x01"
        subscribers = self._prefixes.setdefault(prefix, [])
        if subscribed:
            subscribers.append(connection)
            if len(subscribers) == 1:
                self._tell(frames[0])
        elif connection in subscribers:
            subscribers.remove(connection)
            self._last_gone(prefix, subscribers)

    def _last_gone(self, prefix: bytes, subscribers: list[Connection]) -> None:
        if not subscribers:
            del self._prefixes[prefix]
            self._tell(b"\x00" + prefix)

    def _tell(self, frame: bytes) -> None:
        self._broker.turn(lambda core: core.subscription(self._pair, frame))

    def closed(self, connection: Connection) -> None:
        for prefix, subscribers in list(self._prefixes.items()):
            if connection in subscribers:
                subscribers[:] = [one for one in subscribers if one is not connection]
                self._last_gone(prefix, subscribers)

    def publish(self, frames: Sequence[bytes]) -> None:
        told: dict[Connection, None] = {}
        for prefix, subscribers in self._prefixes.items():
            if frames[0].startswith(prefix):
                told.update(dict.fromkeys(subscribers))
        for connection in told:
            if not self._broker.drops(frames):
                connection.send_down(frames)


class SimBroker:
    """One broker on its own host."""

    def __init__(self, network: Network, host: Host, randomness: random.Random, findings: list[str]) -> None:
        self.network, self.host, self._randomness, self._findings = network, host, randomness, findings
        self.address = f"tcp://{host.name}:{PORTS['clients']}"
        self.saved: dict[str, Place] = {}
        self.drop_share = 0.0
        """Share of published messages that subscribers lose (a full queue)."""
        self.duplicate_share = 0.0
        """Share of clients' messages that come a second time, later."""
        self.process: Process = Process(network.loop, host, host.name)
        self.process.alive = False
        self._core: BrokerCore | None = None
        self._unmatched = 0  # of its earlier lives
        self._asked: set[bytes] = set()  # refs of the commands of this life
        self._asked_before: set[bytes] = set()  # and of earlier ones
        self._registered_s: dict[bytes, float] = {}  # connection → when it was registered last

    # -- life ------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.process = Process(self.network.loop, self.host, self.host.name)
        process = self.process
        process.on_death.append(lambda: self.network.listeners_of(process))
        self._clients: dict[bytes, Connection] = {}
        self._workers: dict[bytes, Connection] = {}
        self._owners = Owners(self.host.name, self._findings)
        self._events, self._stdio = _Publisher(self, "events"), _Publisher(self, "stdio")
        self._timer: Any = None
        wall = wall_ns(self.network.loop) + self.host.wall_offset_ns
        identity = Identity(
            instance=new_instance(wall, self._randomness.randbytes(10)),
            epoch=self._randomness.randbytes(8).hex(),
            started_ns=wall,
            workers=str(PORTS["workers"]),
            events_in=str(PORTS["events_in"]),
            events_out=str(PORTS["events_out"]),
            stdio_in=str(PORTS["stdio_in"]),
            stdio_out=str(PORTS["stdio_out"]),
        )
        self._unmatched = self.unmatched
        self._asked_before |= self._asked
        self._asked = set()
        self._core = BrokerCore(self, identity, self.network.loop.time(), wall, self._randomness.getrandbits(63))
        self._core.remember(sorted(self.saved.items()))
        self._listen()
        process.call_later(SAVE_S, self._save)

    def kill(self) -> None:
        self.process.kill()

    @property
    def unmatched(self) -> int:
        """Answers of guests, over all its lives, to what it had not asked.

        Not counted: one to its forerunner on this address that was on its way when the worker could not know yet of the new broker.
        """
        return self._unmatched + (self._core.counters.counts.get("replies_unmatched", 0) if self._core is not None else 0)

    def _listen(self) -> None:
        clients = self._listener("clients", pings=True)
        clients.on_open = lambda connection: self._clients.__setitem__(connection.identity, connection)
        clients.on_message = self._from_client
        clients.on_closed = self._client_closed
        workers = self._listener("workers", pings=False)
        workers.on_open = lambda connection: self._workers.__setitem__(connection.identity, connection)
        workers.on_message = self._from_worker
        workers.on_closed = self._worker_closed
        self._listener("events_in", pings=False).on_message = lambda connection, frames: self.turn(lambda core: core.event(frames))
        self._listener("stdio_in", pings=False).on_message = lambda connection, frames: self.turn(lambda core: core.stdio(frames))
        for name, publisher in (("events_out", self._events), ("stdio_out", self._stdio)):
            out = self._listener(name, pings=False)
            out.on_message, out.on_closed = publisher.message, publisher.closed

    def _listener(self, name: str, *, pings: bool) -> Listener:
        listener = Listener(self.process, f"tcp://{self.host.name}:{PORTS[name]}", pings=pings)
        self.network.listen(listener)
        return listener

    def _save(self) -> None:
        if self._core is not None and self._core.places_moved:
            self.saved = self._core.take_places()
        self.process.call_later(SAVE_S, self._save)

    # -- turns -----------------------------------------------------------------------------------------------------------------

    def turn(self, take: Any) -> None:
        core = self._core
        assert core is not None
        core.begin(self.network.loop.time(), wall_ns(self.network.loop))
        take(core)
        core.end()
        if core.counters.notes:
            core.counters.take_notes()
        due_s = core.next_due_s()
        if due_s is not None and (self._timer is None or self._timer.when() > due_s):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.process.call_later(max(0.0, due_s - self.network.loop.time()) + 0.000_1, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.turn(lambda core: None)

    def _from_worker(self, connection: Connection, frames: Frames) -> None:
        self._owners.from_worker(connection, frames)
        counted = self.unmatched
        self.turn(lambda core: core.worker([connection.identity, *frames]))
        known_s = self.network.loop.time() - self._registered_s.get(connection.identity, 0.0)
        if self.unmatched > counted and bytes(frames[1]) in self._asked_before and known_s < UNKNOWN_TO_WORKER_S:
            self._unmatched -= 1

    def _from_client(self, connection: Connection, frames: Frames) -> None:
        self.turn(lambda core: core.client([connection.identity, *frames]))
        if self.duplicate_share and self._randomness.random() < self.duplicate_share and self._is_forwarded(frames):
            later_s = self._randomness.random() ** 3 * 20
            header = decode_command_header(frames)
            left_ms, age_ms = max(0, header.timeout_ms - int(later_s * 1000)), header.age_ms + int(later_s * 1000)
            copy = [pack(structs.replace(header, timeout_ms=left_ms, age_ms=age_ms)), *frames[1:]]  # as whoever repeats it says
            self.process.call_later(later_s, self._again, connection, copy)

    def _is_forwarded(self, frames: Frames) -> bool:
        """A copy of what was refused would be a command sent after its refusal, which no network does."""
        assert self._core is not None
        guest = self._core.registry.guests.get(decode_command_header(frames).guest)
        return guest is not None and guest.up

    def _again(self, connection: Connection, frames: Frames) -> None:
        self.network.on_delivery("duplicate", self.host.name, frames)
        self.turn(lambda core: core.client([connection.identity, *frames]))

    def _client_closed(self, connection: Connection) -> None:
        self._clients.pop(connection.identity, None)

    def _worker_closed(self, connection: Connection) -> None:
        self._workers.pop(connection.identity, None)
        self.turn(lambda core: core.lost(connection.identity))

    def drops(self, frames: Sequence[bytes]) -> bool:
        return bool(self.drop_share) and not frames[0].startswith(b"nonce/") and self._randomness.random() < self.drop_share

    def best_seen(self, guest: str) -> Place | None:
        """The highest place of a guest that this broker knows."""
        known = self._core.registry.guests.get(guest) if self._core is not None and self.process.alive else None
        return known.seen if known is not None else None

    def has(self, guest: str) -> bool:
        """Whether the guest is registered here now."""
        known = self._core.registry.guests.get(guest) if self._core is not None and self.process.alive else None
        return known is not None and known.up

    # -- the core's ways out ---------------------------------------------------------------------------------------------------

    def to_client(self, frames: Sequence[Any]) -> None:
        connection = self._clients.get(frames[0])
        if connection is not None:
            connection.send_down(frames[1:])

    def to_worker(self, frames: Sequence[Any]) -> Delivery:
        connection = self._workers.get(frames[0])
        if connection is None:
            return "gone"
        self._owners.to_worker(connection, frames[1:])
        if frames[1] == COMMAND:
            self._asked.add(bytes(frames[2]))
        elif frames[1] == REGISTERED:
            self._registered_s[connection.identity] = self.network.loop.time()
        connection.send_down(frames[1:])
        return "sent"

    def publish_event(self, frames: Sequence[Any]) -> None:
        self._owners.published(frames)
        self._events.publish(frames)

    def publish_stdio(self, frames: Sequence[Any]) -> None:
        self._stdio.publish(frames)
