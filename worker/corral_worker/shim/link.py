"""The shim's side of its socket: who may speak (the newest generation), what waits to be sent, what was not acked."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

from corral_worker.shim.base.acceptor import Acceptor
from corral_worker.shim.base.linux import log
from corral_worker.shim.base.loop import READABLE, WRITABLE, Loop
from corral_worker.shim.base.wire import VERSION, FrameReader, Message, WireError, encode

OUT_BYTES_MAX = 1024 * 1024
READ_BYTES = 64 * 1024
WRITE_PARTS_MAX = 64  # of one write; the kernel takes up to IOV_MAX, 1024
STRANGERS_MAX = 16
_UCRED = struct.Struct("3i")


def peer_credentials(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of who is at the other end (of who listened, for a connection we made). Raises OSError."""
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


class _Peer:
    """One connection: frames in, frames out."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection: socket.socket | None = connection
        self.reader = FrameReader()
        self.out: deque[memoryview] = deque()
        self.out_bytes = 0
        self.watched = READABLE


class WorkerLink:
    """At most one worker is heard: the one with the highest generation. Others are refused.

    Notices are numbered and kept until acknowledged; a worker that does not read makes them wait here, never us.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        guest: str,
        *,
        on_message: Callable[[Message, bytes], None],
        snapshot: Callable[[], Message],
    ) -> None:
        """``snapshot`` gives the fields of the answer to a hello."""
        self._loop = loop
        self._listener = listener
        self._guest = guest
        self._on_message = on_message
        self._snapshot = snapshot
        self._generation = -1
        self._worker: _Peer | None = None
        self._strangers: list[_Peer] = []  # connected, but no hello yet
        self._notices: dict[int, Message] = {}  # n -> not acknowledged yet
        self._unsent: deque[int] = deque()  # of them, those this worker was not sent yet
        self._last_n = 0
        self._gathers = False
        self._acceptor = Acceptor(loop, listener, self._connected)

    def send(self, message: Message, *, droppable: bool = False) -> None:
        """Send to the worker, if there is one. Droppable messages are left out when it is far behind."""
        worker = self._worker
        if worker is None or (droppable and worker.out_bytes > OUT_BYTES_MAX):
            return
        self._enqueue(worker, encode(message))
        self._flush(worker)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """What is sent meanwhile goes out in one write: who reads that a process began then knows, too, that it has ended."""
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
            if self._worker is not None:
                self._flush(self._worker)

    def notify(self, message: Message) -> None:
        """Send a notice until it is acknowledged. A gap joins the one before it that nobody was sent yet."""
        if message["t"] == "gap" and self._extend_unsent_gap(message):
            return
        self._last_n += 1
        self._notices[self._last_n] = {**message, "n": self._last_n}
        self._unsent.append(self._last_n)
        self._send_notices()

    def acknowledge(self, n: int) -> Message | None:
        """Forget one notice; returns it, None when it was not (or no longer) known."""
        return self._notices.pop(n, None)

    def has_notice_of(self, process: str) -> bool:
        """Some notice about this process is not acknowledged yet."""
        return any(notice.get("process") == process for notice in self._notices.values())

    def close(self) -> None:
        """Send what can be sent at once and close everything."""
        if self._worker is not None:
            self._flush(self._worker)
        for peer in [*self._strangers, *([self._worker] if self._worker else [])]:
            self._close_peer(peer)
        self._acceptor.close()
        self._listener.close()

    def _connected(self, connection: socket.socket) -> None:
        if peer_credentials(connection)[1] != os.getuid():
            log("refused a connection of another user")
            connection.close()
            return
        peer = _Peer(connection)
        self._strangers.append(peer)
        self._loop.watch(connection.fileno(), READABLE, lambda events: self._on_events(peer, events))
        if len(self._strangers) > STRANGERS_MAX:
            self._close_peer(self._strangers[0])

    def _on_events(self, peer: _Peer, events: int) -> None:
        if events & WRITABLE:
            self._flush(peer)
        if events & ~WRITABLE and peer.connection is not None:
            self._read(peer)

    def _read(self, peer: _Peer) -> None:
        assert peer.connection is not None
        try:
            data = peer.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_peer(peer)
            return
        try:
            for message, blob in peer.reader.feed(data):
                if peer.connection is None:  # an older generation's bytes are not executed any more
                    return
                if peer is self._worker:
                    self._on_message(message, blob)
                else:
                    self._greet(peer, message)
        except WireError as error:
            log(f"closed a connection: {error}")
            self._close_peer(peer)

    def _greet(self, peer: _Peer, message: Message) -> None:
        generation = message.get("generation")
        if message.get("t") != "hello" or not isinstance(generation, int):
            raise WireError("the first message was no hello")
        if generation <= self._generation or message.get("guest") != self._guest:
            self._enqueue(peer, encode({"t": "refused", "generation": self._generation}))
            self._flush(peer)
            self._close_peer(peer)
            return
        self._generation = generation
        if self._worker is not None:
            self._close_peer(self._worker)
        self._strangers.remove(peer)
        self._worker = peer
        self._enqueue(peer, encode({"t": "state", "version": VERSION, **self._snapshot()}))
        self._unsent = deque(self._notices)
        self._flush(peer)

    def _send_notices(self) -> None:
        """As many as may wait in the buffer; the rest when it has drained."""
        worker = self._worker
        while worker is not None and self._unsent and worker.out_bytes <= OUT_BYTES_MAX:
            notice = self._notices.get(self._unsent.popleft())
            if notice is not None:
                self._enqueue(worker, encode(notice))
                if not self._unsent or worker.out_bytes > OUT_BYTES_MAX:
                    self._write_out(worker)
                    worker = self._worker

    def _extend_unsent_gap(self, message: Message) -> bool:
        for n in reversed(self._unsent):
            notice = self._notices.get(n)
            if notice is None or any(notice.get(key) != message[key] for key in ("process", "stream")):
                continue
            same = notice["t"] == "gap" and notice["reason"] == message["reason"]
            mergeable = bool(same and notice["to"] == message["from"])
            if mergeable:
                notice["to"] = message["to"]
            return mergeable
        return False

    def _enqueue(self, peer: _Peer, data: bytes) -> None:
        peer.out.append(memoryview(data))
        peer.out_bytes += len(data)

    def _flush(self, peer: _Peer) -> None:
        self._write_out(peer)
        if peer is self._worker:
            self._send_notices()

    def _write_out(self, peer: _Peer) -> None:
        connection = peer.connection
        if connection is None or self._gathers:
            return
        try:
            while peer.out:
                sent = connection.sendmsg(itertools.islice(peer.out, WRITE_PARTS_MAX))
                peer.out_bytes -= sent
                while peer.out and sent >= len(peer.out[0]):
                    sent -= len(peer.out.popleft())
                if sent:
                    peer.out[0] = peer.out[0][sent:]
        except BlockingIOError:
            self._watch(peer, READABLE | WRITABLE)
            return
        except OSError:
            self._close_peer(peer)
            return
        self._watch(peer, READABLE)

    def _watch(self, peer: _Peer, events: int) -> None:
        if peer.connection is not None and peer.watched != events:
            peer.watched = events
            self._loop.change(peer.connection.fileno(), events)

    def _close_peer(self, peer: _Peer) -> None:
        if peer.connection is not None:
            self._loop.unwatch(peer.connection.fileno())
            peer.connection.close()
            peer.connection = None
        peer.out.clear()
        if peer is self._worker:
            self._worker = None
        elif peer in self._strangers:
            self._strangers.remove(peer)
