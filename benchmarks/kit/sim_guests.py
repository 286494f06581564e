"""Many guests without workers in one process: they speak the real protocol over real sockets, and answer at once.

`python -m kit.sim_guests ADDRESS PREFIX COUNT [--first N] [--publish N --window FILE]` says `ready` when all are registered. Asked for info
they tell their place, asked to list they have no containers, asked to replay they give the events published, and to pause they answer with
an empty `ok`. With --publish the first one publishes N numbered events, never more than WINDOW ahead of what its reader wrote to FILE.
"""

import argparse
import mmap
import resource
import secrets
import select
import struct
import sys
import time
from pathlib import Path

import zmq

from corral_schemas import session
from corral_schemas.base import Message
from corral_schemas.cursor import Place
from corral_schemas.events import EventHeader, Started
from corral_schemas.frames import (
    CommandHeader,
    ReplyHeader,
    decode_args,
    decode_reply,
    encode_command,
    encode_event,
    encode_reply,
    pack,
    reply_value,
    unpack,
)
from corral_schemas.names import new_instance
from corral_schemas.queries import HelloReply, InfoReply, ListReply, Nothing, ReplayArgs, ReplayReply
from corral_schemas.topics import event_topic

EPOCH = "5e5e5e5e5e5e5e5e"
HEARTBEAT_S = 5.0
WINDOW = 4_000
DESCRIPTORS_PER_GUEST = 4
EMPTY_OK = pack({"ok": {}})


def hello(context: "zmq.Context[zmq.Socket[bytes]]", address: str) -> HelloReply:
    """Asks the broker where its other sockets are."""
    socket = context.socket(zmq.DEALER)
    socket.connect(address)
    socket.send_multipart(encode_command(CommandHeader(id=secrets.token_hex(16), guest="", op="hello", timeout_ms=30_000), Nothing()))
    _, body = decode_reply(socket.recv_multipart())
    socket.close(0)
    reply = reply_value("hello", body)
    assert isinstance(reply, HelloReply)
    return reply


class SimGuest:
    """One guest: a DEALER, and a PUB as a worker has it."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, told: HelloReply, name: str) -> None:
        self.name = name
        self.worker = new_instance(time.time_ns(), secrets.token_bytes(10))
        self.seq = 0
        self.registered = False
        self.main = _connected(context, zmq.DEALER, address + told.workers)
        self.events = _connected(context, zmq.PUB, address + told.events_in)
        self._send_register()

    def _send_register(self) -> None:
        self.main.send_multipart([session.REGISTER, pack(self._register())])

    def _register(self) -> session.Register:
        return session.Register(guest=self.name, worker=self.worker, epoch=EPOCH, seq=self.seq, last_seq_by_kind=self._by_kind())

    def _by_kind(self) -> dict[str, int]:
        """A reader of one kind takes a place without that kind for word that there is none."""
        return {"started": self.seq} if self.seq else {}

    def drain(self) -> None:
        """Answers whatever has come: until EVENTS shows nothing, since the descriptor is edge-triggered."""
        while int(self.main.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            frames = self.main.recv_multipart(zmq.NOBLOCK)
            if frames[0] == session.COMMAND:
                self._answer(frames[1], frames[2], frames[3])
            elif frames[0] == session.REGISTERED:
                self.registered = True
            elif frames[0] == session.PLEASE_REGISTER:
                self._send_register()

    def beat(self) -> None:
        """One heartbeat."""
        self.main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch=EPOCH, seq=self.seq, last_seq_by_kind=self._by_kind()))])

    def _answer(self, ref: bytes, header_frame: bytes, args: bytes) -> None:
        if b"pause" in header_frame:  # the cheap one, for round trips: its header is echoed, since a reader ignores unknown fields
            self.main.send_multipart([session.REPLY, ref, header_frame, EMPTY_OK])
            return
        header = unpack(CommandHeader, header_frame)
        reply = ReplyHeader(id=header.id, guest=self.name, epoch=EPOCH)
        self.main.send_multipart([session.REPLY, ref, *encode_reply(reply, self._reply(header.op, args))])

    def _reply(self, op: str, args: bytes) -> Message:
        if op == "list":
            return ListReply(containers=[], place=Place(epoch=EPOCH, seq=self.seq))
        if op == "replay":
            asked = decode_args(op, args)
            assert isinstance(asked, ReplayArgs)
            upto = min(self.seq, asked.after + 1000)
            events = [tuple(self.event(seq)[1:]) for seq in range(asked.after + 1, upto + 1)]
            return ReplayReply(epoch=EPOCH, events=events, upto=upto, last_seq=self.seq)  # type: ignore[arg-type]
        return InfoReply(kind="worker", version="0", protocol=1, instance=self.worker, guest=self.name, epoch=EPOCH, seq=self.seq)

    def event(self, seq: int) -> list[bytes]:
        """The frames of the event with this number."""
        header = EventHeader(
            guest=self.name,
            epoch=EPOCH,
            seq=seq,
            prev=seq - 1,
            worker=self.worker,
            time_ns=1,
            kind="started",
            container="bench",
            instance="",
            process="init",
            process_instance="",
        )
        return encode_event(event_topic(self.name, "started", "bench", "init"), header, Started(pid=1))

    def publish(self, count: int, window: mmap.mmap) -> None:
        """Publishes up to `count` events, as far as the reader's window allows now."""
        read = struct.unpack_from("q", window)[0]
        upto = min(count, read + WINDOW)
        while read >= 0 and self.seq < upto:
            self.seq += 1
            self.events.send_multipart(self.event(self.seq))


def _connected(context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
    socket.linger, socket.sndhwm = 0, 10_000
    socket.connect(endpoint)
    return socket


def allow_descriptors(count: int) -> int:
    """Raises this process's limit as far as it may be; returns how many descriptors it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    except (OSError, ValueError):  # only a privileged process may go beyond the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def serve(address: str, prefix: str, first: int, count: int, publish: int, window: mmap.mmap | None) -> None:
    """Guests PREFIX`first` and on, until it is killed."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * count + 100)
    told = hello(context, address)
    epoll = select.epoll()
    guests, by_fd = [], {}
    for number in range(first, first + count):
        guest = SimGuest(context, address, told, f"{prefix}{number}")
        guests.append(guest)
        by_fd[int(guest.main.getsockopt(zmq.FD))] = guest
        epoll.register(int(guest.main.getsockopt(zmq.FD)), select.EPOLLIN)
        guest.drain()
    said, due_s, turn = False, time.monotonic() + HEARTBEAT_S / count, 0
    while True:
        busy = window is not None and guests[0].seq < publish
        for fd, _ in epoll.poll(0.0005 if busy else min(0.02, max(0.0, due_s - time.monotonic()))):
            by_fd[fd].drain()
        if not said:
            for guest in guests:
                guest.drain()
            if all(guest.registered for guest in guests):
                said = True
                print("ready", flush=True)
        if window is not None:
            guests[0].publish(publish, window)
        while time.monotonic() >= due_s:
            guests[turn].beat()
            guests[turn].drain()
            turn, due_s = (turn + 1) % count, due_s + HEARTBEAT_S / count


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("prefix")
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--publish", type=int, default=0)
    parser.add_argument("--window", type=Path)
    options = parser.parse_args()
    if allow_descriptors(DESCRIPTORS_PER_GUEST * options.count + 200) < DESCRIPTORS_PER_GUEST * options.count + 200:
        print("too few descriptors", file=sys.stderr)
        return 1
    window = None
    if options.window is not None:
        with options.window.open("r+b") as file:
            window = mmap.mmap(file.fileno(), 8)
    serve(options.address, options.prefix, options.first, options.count, options.publish, window)
    return 0


if __name__ == "__main__":
    sys.exit(main())
