"""One ZeroMQ socket in an asyncio loop: its FD is watched, messages are drained in bounded bursts, connects and breaks are told.

The FD of a ZeroMQ socket is edge-triggered: after every drain and every send EVENTS is looked at again, or messages would lie there unseen.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import zmq

from corral.keys import Keys
from corral_schemas.errors import error
from corral_schemas.limits import FRAME_BYTES_MAX

BURST_MESSAGES = 256
"""Messages taken in one go before the rest of the loop gets its turn."""
HEARTBEAT_MS = 2_000
HEARTBEAT_TIMEOUT_MS = 6_000
"""Pings of libzmq's own, where all is received that comes. libzmq 4.3 aborts the process when it is time for a ping on a connection that
was closed while messages from it were waiting for room; so where room is limited, the kernel looks whether the other end is there."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 3, 1, 3
RECONNECT_MS = 50
RECONNECT_MAX_MS = 1_000

_PINGS = ((zmq.HEARTBEAT_IVL, HEARTBEAT_MS), (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS))
_KEEPALIVE = (
    (zmq.TCP_KEEPALIVE, 1),
    (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S),
    (zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S),
    (zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES),
)

OnMessage = Callable[[list[bytes]], None]
ZERO_COPY_BYTES = 64 << 10
"""A last frame of this size or more is read where libzmq has it, and sent from where we have it; smaller ones are cheaper to copy."""
_EVENTS, _READABLE, _AT_ONCE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)  # numbers once: an enum's `&` takes longer than the look


class Link(Protocol):
    """One connection-oriented socket as the client uses it; `Channel` is the real one."""

    def send(self, frames: Sequence[bytes]) -> bool: ...
    def subscribe(self, prefix: bytes) -> None: ...
    def unsubscribe(self, prefix: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Wire(Protocol):
    """Where sockets come from. A simulated network is one too."""

    def dial(
        self,
        kind: int,
        address: str,
        *,
        on_message: OnMessage,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        receive_hwm: int = 0,
    ) -> Link:
        """A zmq.DEALER or zmq.SUB connected to an address. Raises bad_request for one that cannot be dialled."""
        ...

    def close(self) -> None:
        """Called once every socket is closed."""
        ...


class ZmqWire:
    """ZeroMQ sockets in a context of their own."""

    def __init__(self, keys: Keys | None = None) -> None:
        """With `keys` every tcp connection is made with them."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keys = keys

    def dial(
        self,
        kind: int,
        address: str,
        *,
        on_message: OnMessage,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        receive_hwm: int = 0,
    ) -> "Channel":
        try:
            return Channel(
                self._context,
                kind,
                address,
                on_message=on_message,
                on_up=on_up,
                on_down=on_down,
                receive_hwm=receive_hwm,
                keys=self._keys,
            )
        except zmq.ZMQError as why:
            raise error("bad_request", f"broker address {address!r} cannot be dialled: {why}") from why

    def close(self) -> None:
        self._context.destroy(linger=0)  # every socket is closed: this only joins its I/O thread


class Channel:
    """A DEALER or SUB connected to one address. All methods belong to the loop's thread."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        kind: int,
        address: str,
        *,
        on_message: OnMessage,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        receive_hwm: int = 0,
        keys: Keys | None = None,
    ) -> None:
        """Raises zmq.ZMQError for an address that cannot be dialled."""
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_up, self._on_down = on_message, on_up, on_down
        self._paused = False
        self._again: asyncio.Handle | None = None
        self._socket = context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),  # what was queued for a connection that broke is dropped: it is sent again under its id
            (zmq.RCVHWM, receive_hwm),
            (zmq.SNDHWM, 0 if kind == zmq.SUB else 20_000),
            (zmq.MAXMSGSIZE, FRAME_BYTES_MAX + (64 << 10)),
            (zmq.RECONNECT_IVL, RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
            *(_KEEPALIVE if receive_hwm else _PINGS),
        ):
            self._socket.setsockopt(option, value)
        if keys is not None and address.startswith("tcp://"):
            self._socket.curve_publickey = keys.public.encode()
            self._socket.curve_secretkey = keys.secret.encode()
            self._socket.curve_serverkey = keys.server.encode()
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._loop.add_reader(self._monitor.FD, self._watch)
        self._loop.add_reader(self._socket.FD, self._drain)
        try:
            self._socket.connect(address)
        except zmq.ZMQError:
            self.close()
            raise
        self._look_again()
        self._loop.call_soon(self._watch)  # an FD tells nothing before EVENTS was looked at once

    def send(self, frames: Sequence[bytes]) -> bool:
        """False if it cannot go out now."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=len(frames[-1]) < ZERO_COPY_BYTES)
        except zmq.Again:
            return False
        self._look_again()
        return True

    def subscribe(self, prefix: bytes) -> None:
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self._look_again()

    def unsubscribe(self, prefix: bytes) -> None:
        self._socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
        self._look_again()

    def pause(self) -> None:
        """Takes nothing more in: ZeroMQ queues up to receive_hwm messages, then the peer drops or waits."""
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._look_again()

    def close(self) -> None:
        if self._socket.closed:
            return
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket.FD)
        self._loop.remove_reader(self._monitor.FD)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def _look_again(self) -> None:
        if self._again is None and not self._paused and int(self._socket.getsockopt(_EVENTS)) & _READABLE:
            self._again = self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        with contextlib.suppress(zmq.Again):  # nothing more there
            for _ in range(BURST_MESSAGES):
                if self._paused or self._socket.closed:  # the message before may have asked for that
                    return
                self._on_message(_receive(self._socket))
        if not self._socket.closed:
            self._look_again()

    def _watch(self) -> None:
        while not self._socket.closed and int(self._monitor.getsockopt(_EVENTS)) & _READABLE:
            event = int.from_bytes(self._monitor.recv_multipart(zmq.NOBLOCK)[0][:2], "little")
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._on_up()
            elif event == zmq.EVENT_DISCONNECTED:
                self._on_down()


def _receive(socket: "zmq.Socket[bytes]") -> list[bytes]:
    """One message; a large last frame as a view of libzmq's own memory, which is good for whatever reads bytes. Raises zmq.Again."""
    frames: list[bytes] = []
    frame = socket.recv(_AT_ONCE, False)
    while frame.more:
        frames.append(frame.bytes)
        frame = socket.recv(_AT_ONCE, False)
    frames.append(frame.bytes if not frames or len(frame) < ZERO_COPY_BYTES else cast(bytes, frame.buffer))
    return frames
