"""The broker's six sockets: types, options, keys and binding."""

import ctypes
import errno
import os
import secrets

import zmq

from corral_broker.access.keyring import Keyring
from corral_broker.access.quotas import Quotas
from corral_broker.net.ipc_files import IpcFiles, private_files
from corral_broker.net.zap import ZapHandler
from corral_broker.state.addresses import NAMES, SUFFIXES, BindAddress, BindError, SocketName
from corral_broker.state.counters import Counters
from corral_schemas.keyfiles import (
    BROKER_SECRET,
    DIRECTORIES,
    KeyFileError,
    KeyPair,
    check_directory_mode,
    check_key,
    check_secret_mode,
    parse,
)
from corral_schemas.limits import EVENTS_HWM, FRAME_BYTES_MAX, STDIO_HWM

CLIENT_REPLIES_HWM = 10_000
"""Replies queued per client before further ones are dropped; the client asks again."""
WORKER_HWM = 8_192
"""Messages queued per worker; above what a guest's credits allow."""
RECEIVE_HWM = 1_000
"""Messages of one peer that wait here; beyond, its connection is not read: a flood stays where it comes from, and takes no more of the I/O
thread's time than of the loop's."""
XPUB_FRAME_BYTES_MAX = 512
"""Largest subscription: longer than any topic. A connection that sends a larger one is closed by libzmq."""
CLIENT_SILENT_MS = 6_000
"""A client on tcp that takes nothing of what is sent to it for so long (a stopped one too) loses its connection, and its queue with it.

The kernel sees to it, and not libzmq's own pings: libzmq 4.3 aborts the process when it is time for a ping on a connection that has been
closed while messages from it were waiting for room (out_event in stream_engine_base.cpp), as after a flood that ends."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3
"""A TCP connection whose other end's kernel is gone is closed after 25 s. Guests get nothing but this: libzmq searches all timers of an I/O
thread for each ping answered (poller_base.cpp, cancel_timer), which at 10,000 connections takes a whole core; and guests have heartbeats of
their own."""
HANDSHAKE_MS = 8_000
"""A connection that has not shown its key after so long is closed."""
BACKLOG = 4_096
"""Connections waiting to be accepted, when all guests come back at once."""

_TYPES: dict[SocketName, int] = {
    "clients": zmq.ROUTER,
    "workers": zmq.ROUTER,
    "events_in": zmq.XSUB,
    "events_out": zmq.XPUB,
    "stdio_in": zmq.XSUB,
    "stdio_out": zmq.XPUB,
}
_SEND_HWM: dict[SocketName, int] = {
    "clients": CLIENT_REPLIES_HWM,
    "workers": WORKER_HWM,
    "events_in": EVENTS_HWM,
    "events_out": EVENTS_HWM,
    "stdio_in": STDIO_HWM,
    "stdio_out": STDIO_HWM,
}
EVERYTHING = b"\x01"


class Sockets:
    """All six, bound. One thread may use them; `close` may be called again."""

    def __init__(self, address: BindAddress, io_threads: int = 1, keyring: Keyring | None = None, counters: Counters | None = None) -> None:
        """With a keyring every socket asks for keys (tcp only). Raises BindError."""
        self._secret = _broker_secret(keyring) if keyring is not None else None
        self._files = IpcFiles(address.path) if address.transport == "ipc" else None
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads)
        self._all: dict[SocketName, zmq.Socket[bytes]] = {}
        self.monitors: dict[SocketName, zmq.Socket[bytes]] = {}
        self.zap: ZapHandler | None = None
        self.quotas = Quotas()
        try:
            if keyring is not None:
                self.zap = ZapHandler(self.context, keyring, counters or Counters(), self.quotas)
            self._bind(address)
        except BaseException:
            self.close()
            raise
        self.clients, self.workers = self._all["clients"], self._all["workers"]
        self.events_in, self.events_out = self._all["events_in"], self._all["events_out"]
        self.stdio_in, self.stdio_out = self._all["stdio_in"], self._all["stdio_out"]
        # Workers' events are never filtered here: a subscription forwarded to them on demand misses what they publish meanwhile.
        self.events_in.send(EVERYTHING)
        self.stdio_in.send(EVERYTHING)

    @property
    def monitor(self) -> "zmq.Socket[bytes]":
        """Tells when a worker's connection closes."""
        return self.monitors["workers"]

    @property
    def is_tcp(self) -> bool:
        return self._files is None

    def address(self, advertise: str) -> str:
        """What clients and workers dial; `advertise` replaces the host of a tcp address."""
        endpoint = self._all["clients"].get_string(zmq.LAST_ENDPOINT)
        return f"tcp://{advertise}:{self.port_or_suffix('clients')}" if advertise and self.is_tcp else endpoint

    def named(self, name: SocketName) -> "zmq.Socket[bytes]":
        """One of the six."""
        return self._all[name]

    def port_or_suffix(self, name: SocketName) -> str:
        """What a peer joins to the address it dialled."""
        endpoint = self._all[name].get_string(zmq.LAST_ENDPOINT)
        return endpoint.rpartition(":")[2] if endpoint.startswith("tcp://") else SUFFIXES[name]

    def close(self) -> None:
        """Closes everything at once: nothing that waits to be sent is worth waiting for."""
        for name, monitor in self.monitors.items():
            self._all[name].disable_monitor()
            monitor.close(0)
        self.monitors.clear()
        if self.zap is not None:
            self.zap.close()
        for socket in self._all.values():
            socket.close(0)
        self.context.term()
        if self._files is not None:
            self._files.release()

    def _bind(self, address: BindAddress) -> None:
        # A ROUTER numbers its peers from rand(), which libzmq seeds with the time and the pid: nobody is to work those numbers out.
        ctypes.CDLL(None).srand(secrets.randbits(32))
        for name in NAMES:
            socket = self._all[name] = self.context.socket(_TYPES[name])
            self._configure(name, socket, address)
            if self._secret is not None:
                self.monitors[name] = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
            elif name == "workers":
                self.monitors[name] = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            endpoint = address.endpoint(name)
            try:
                with private_files():
                    socket.bind(endpoint)
            except zmq.ZMQError as why:
                raise BindError(f"{_bind_failure(why)}: {endpoint}") from why

    def _configure(self, name: SocketName, socket: "zmq.Socket[bytes]", address: BindAddress) -> None:
        socket.linger = 0
        socket.sndhwm = _SEND_HWM[name]
        socket.rcvhwm = RECEIVE_HWM if name != "stdio_in" else STDIO_HWM
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        if name == "clients":
            socket.setsockopt(zmq.TCP_MAXRT, CLIENT_SILENT_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)
        # Twice the limit, so that what is only somewhat too large is answered message_too_large; beyond, the connection is closed.
        socket.setsockopt(zmq.MAXMSGSIZE, XPUB_FRAME_BYTES_MAX if _TYPES[name] == zmq.XPUB else 2 * FRAME_BYTES_MAX)
        if name in ("clients", "workers"):  # else what finds no room is dropped without a word
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if self._secret is not None:
            socket.curve_server = True
            socket.curve_secretkey = self._secret
            socket.setsockopt(zmq.ZAP_DOMAIN, name.encode())
            socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
            if _TYPES[name] == zmq.XPUB:
                # Each subscription comes up here, also one that another peer has: it tells which key is behind that connection.
                socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        if address.host.startswith("["):
            socket.setsockopt(zmq.IPV6, 1)


def _broker_secret(keyring: Keyring) -> bytes:
    path = keyring.directory / BROKER_SECRET
    try:
        for name in ("", *DIRECTORIES):
            check_directory_mode(str(keyring.directory / name), (keyring.directory / name).stat().st_mode)
        with path.open() as file:
            check_secret_mode(str(path), os.fstat(file.fileno()).st_mode)
            pair = parse(KeyPair, file.read())
        check_key(pair.secret)
    except (OSError, UnicodeDecodeError, KeyFileError) as why:
        raise BindError(f"cannot use {path}: {why}") from why
    return pair.secret.encode()


def _bind_failure(why: zmq.ZMQError) -> str:
    known = {zmq.EADDRINUSE: "address in use", zmq.EADDRNOTAVAIL: "not an address of this host", errno.ENODEV: "no such host or interface"}
    return known.get(why.errno or 0, f"cannot listen ({why.strerror})")
