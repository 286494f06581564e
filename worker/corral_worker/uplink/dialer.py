"""How a broker session gets its sockets. The session knows only this port, so that it also runs on a simulated network."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import zmq

from corral_schemas.limits import EVENTS_HWM, FRAME_BYTES_MAX, STDIO_HWM
from corral_worker.base.keys import Keys
from corral_worker.uplink.zmq_socket import LoopSocket

ZMTP_HEARTBEAT_MS, ZMTP_TIMEOUT_MS = 2_000, 6_000
"""Pings of libzmq's own. Only where all is received that comes: libzmq 4.3 aborts when it is time for a ping on a connection that was
closed while messages from it were waiting for room."""
REPLIES_HWM = 10_000
ENVELOPE_BYTES_MAX = 64 << 10
"""A reply body may wrap a whole frame's worth of content."""

OnBurst = Callable[[list[list[bytes]]], None]
Purpose = Literal["commands", "bulk", "events", "stdio"]


_KINDS: dict[Purpose, tuple[int, int]] = {
    "commands": (zmq.DEALER, REPLIES_HWM),
    "bulk": (zmq.DEALER, REPLIES_HWM),
    "events": (zmq.PUB, EVENTS_HWM),
    "stdio": (zmq.PUB, STDIO_HWM),
}


class Socket(Protocol):
    """One end of a message connection that makes itself anew when it breaks."""

    def send(self, frames: Sequence[bytes]) -> bool:
        """Never blocks; False where the peer takes no more."""
        ...

    def close(self) -> None: ...


class Dialer(Protocol):
    """Opens sockets to a broker."""

    def dial(
        self, purpose: Purpose, address: str, on_burst: OnBurst | None = None, on_connected: Callable[[], None] | None = None
    ) -> Socket:
        """A DEALER for commands, another for messages full of bytes (bulk: a large last frame comes as a memoryview), a PUB for events or
        stdio. `on_connected` is called each time the connection stands. Raises OSError where no descriptor is left for it."""
        ...

    def close(self) -> None: ...


class ZmqSocket:
    """A ZeroMQ socket with the monitor that tells when it is connected."""

    def __init__(
        self, socket: "zmq.Socket[bytes]", on_burst: OnBurst | None, on_connected: Callable[[], None] | None, *, zero_copy: bool
    ) -> None:
        self._monitor = None
        if on_connected is not None:
            monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            self._monitor = LoopSocket(monitor, lambda burst: on_connected())
        self._socket = LoopSocket(socket, on_burst, zero_copy=zero_copy)
        self.send = self._socket.send

    def close(self) -> None:
        if self._monitor is not None:
            self._socket.socket.disable_monitor()
            self._monitor.close()
        self._socket.close()


class ZmqDialer:
    """The real one."""

    def __init__(self, keys: Keys | None = None) -> None:
        """With `keys` every tcp connection is made with them."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keys = keys

    def dial(
        self, purpose: Purpose, address: str, on_burst: OnBurst | None = None, on_connected: Callable[[], None] | None = None
    ) -> Socket:
        kind, send_hwm = _KINDS[purpose]
        try:
            socket = self._context.socket(kind)
        except zmq.ZMQError as why:
            raise _os_error(why) from why
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, send_hwm),
            (zmq.RCVHWM, 0),  # a broker keeps to its credits; and see ZMTP_HEARTBEAT_MS
            (zmq.MAXMSGSIZE, FRAME_BYTES_MAX + ENVELOPE_BYTES_MAX),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 1_000),
            (zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS),
        ):
            socket.setsockopt(option, value)
        if self._keys is not None and address.startswith("tcp://"):
            socket.curve_publickey = self._keys.public.encode()
            socket.curve_secretkey = self._keys.secret.encode()
            socket.curve_serverkey = self._keys.server.encode()
        try:
            opened = ZmqSocket(socket, on_burst, on_connected, zero_copy=purpose == "bulk")
        except zmq.ZMQError as why:  # its monitor is a socket, too
            socket.close(linger=0)
            raise _os_error(why) from why
        socket.connect(address)
        return opened

    def close(self) -> None:
        self._context.destroy(linger=0)


def _os_error(why: zmq.ZMQError) -> OSError:
    return OSError(why.errno, f"no socket can be opened: {why.strerror}")
