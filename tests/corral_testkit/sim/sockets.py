"""The sockets that real clients and workers get on the simulated network, with the habits of ZeroMQ."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from corral_testkit.sim.network import Connection, Dialler, Frames, Network
from corral_testkit.sim.process import Process
from corral_worker.uplink.dialer import OnBurst, Purpose

BURST = 100
QUEUE_MAX = 10_000


class SimLink:
    """A client's DEALER or SUB (`corral.channel.Link`)."""

    def __init__(
        self,
        network: Network,
        process: Process,
        address: str,
        on_message: Callable[[Frames], None],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._subscriptions: list[bytes] = []
        self._paused = False
        self._kept: deque[Frames] = deque()
        self._on_message = on_message
        self._dialler = Dialler(network, process, address)
        self._dialler.on_frames = self._arrived
        self._dialler.on_up = on_up
        self._dialler.on_down = on_down
        self._dialler.on_connecting = self._subscribe_again

    def _subscribe_again(self, connection: Connection) -> None:
        for prefix in self._subscriptions:
            connection.send_up([b"\x01" + prefix])

    def _arrived(self, frames: Frames) -> None:
        if self._paused:
            self._kept.append(frames)
        else:
            self._on_message(frames)

    def send(self, frames: Sequence[bytes]) -> bool:
        return self._dialler.send(frames)

    def subscribe(self, prefix: bytes) -> None:
        self._subscriptions.append(prefix)
        self._dialler.send([b"\x01" + prefix])

    def unsubscribe(self, prefix: bytes) -> None:
        if prefix in self._subscriptions:
            self._subscriptions.remove(prefix)
            self._dialler.send([b"\x00" + prefix])

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        while self._kept and not self._paused:
            self._on_message(self._kept.popleft())

    def close(self) -> None:
        self._dialler.close()


class SimWire:
    """`corral.channel.Wire` of one client process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network, self._process = network, process

    def dial(
        self,
        kind: int,
        address: str,
        *,
        on_message: Callable[[Frames], None],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        receive_hwm: int = 0,
    ) -> SimLink:
        assert kind in (zmq.DEALER, zmq.SUB)
        return SimLink(self._network, self._process, address, on_message, on_up, on_down)

    def close(self) -> None: ...


class SimSocket:
    """A worker's DEALER: queues what cannot go out yet, hands over what came in bursts."""

    def __init__(
        self, network: Network, process: Process, address: str, on_burst: OnBurst | None, on_connected: Callable[[], None] | None
    ) -> None:
        self._process = process
        self._on_burst = on_burst
        self._queue: deque[Sequence[bytes]] = deque()
        self._inbox: deque[Frames] = deque()
        self._closed = False
        self._on_connected = on_connected
        self._dialler = Dialler(network, process, address)
        self._dialler.on_connecting = self._flush
        self._dialler.on_up = self._up
        self._dialler.on_frames = self._arrived

    def _flush(self, connection: Connection) -> None:
        while self._queue:
            connection.send_up(self._queue.popleft())

    def _up(self) -> None:
        if self._on_connected is not None and not self._closed:
            self._on_connected()

    def _arrived(self, frames: Frames) -> None:
        if not self._inbox:
            self._process.call_soon(self._drain)
        self._inbox.append(frames)

    def _drain(self) -> None:
        burst = [self._inbox.popleft() for _ in range(min(len(self._inbox), BURST))]
        if self._inbox:
            self._process.call_soon(self._drain)
        if burst and self._on_burst is not None and not self._closed:
            self._on_burst(burst)

    def send(self, frames: Sequence[bytes]) -> bool:
        if self._closed:
            return False
        if not self._dialler.send(frames):
            if len(self._queue) >= QUEUE_MAX:
                return False
            self._queue.append(frames)
        return True

    def close(self) -> None:
        self._closed = True
        self._dialler.close()


class SimPublisher:
    """A worker's PUB: says what it has to say only while somebody listens."""

    def __init__(self, network: Network, process: Process, address: str) -> None:
        self._network = network
        self._closed = False
        self._listening: Connection | None = None
        self._process = process
        self._dialler = Dialler(network, process, address)
        self._dialler.on_connecting = self._connecting
        self._dialler.on_down = self._down

    def _connecting(self, connection: Connection) -> None:
        """The other end's subscription takes its way first; what is published before it is there is dropped."""
        self._process.call_later(self._network.delay_s(connection.hosts), self._subscribed, connection)

    def _subscribed(self, connection: Connection) -> None:
        self._listening = connection

    def _down(self) -> None:
        self._listening = None

    def send(self, frames: Sequence[bytes]) -> bool:
        connection = self._listening
        if connection is not None and connection.dialler_open and not self._closed:
            connection.send_up(frames)
        return True

    def close(self) -> None:
        self._closed = True
        self._dialler.close()


class SimDialer:
    """`corral_worker.uplink.dialer.Dialer` of one worker process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network, self._process = network, process

    def dial(self, purpose: Purpose, address: str, on_burst: OnBurst | None = None, on_connected: Callable[[], None] | None = None) -> Any:
        if purpose in ("commands", "bulk"):
            return SimSocket(self._network, self._process, address, on_burst, on_connected)
        return SimPublisher(self._network, self._process, address)

    def close(self) -> None: ...
