"""A peer with an accepted key that sends as fast as it can, until it is killed.

`python -m kit.flood commands ADDRESS PUBLIC SECRET SERVER`: commands, each refused or answered by the broker itself.
`python -m kit.flood guest ADDRESS PUBLIC SECRET SERVER GUEST`: commands to that guest.
`python -m kit.flood events ADDRESS PUBLIC SECRET SERVER GUEST`: registers as that guest and publishes events.
`python -m kit.flood sessions ADDRESS PUBLIC SECRET SERVER GUEST`: registers as that guest and sends heartbeats.
`python -m kit.flood nothing`: makes events and sends them to nobody: as busy as the others, but no flood.
Says `ready` and stops itself (SIGSTOP) before it begins.
"""

import itertools
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator

import zmq

from corral_schemas import session
from corral_schemas.events import EventHeader, Started
from corral_schemas.frames import CommandHeader, decode_reply, encode_command, encode_event, pack, reply_value
from corral_schemas.names import new_instance
from corral_schemas.queries import HelloReply, ListArgs, Nothing
from corral_schemas.topics import event_topic

HELLO_ID = "hello"
BATCH = 64
"""So many commands are sent before answers are looked for."""
REGISTER_S = 1.0


class Flood:
    """One context and one key."""

    def __init__(self, address: str, public: str, secret: str, server: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._address, self._keys = address, (public.encode(), secret.encode(), server.encode())

    def commands(self, guest: str = "") -> None:
        """`guests`, or `list` to the guest, asked again and again; answers are read and thrown away."""
        opened = self._dial(zmq.DEALER, self._address)
        wait_to_begin()
        for batch in itertools.count():
            for number in range(BATCH):
                header = CommandHeader(id=f"{batch}-{number}", guest=guest, op="list" if guest else "guests", timeout_ms=1_000)
                opened.send_multipart(encode_command(header, ListArgs() if guest else Nothing()))
            while opened.poll(0):
                opened.recv_multipart()

    def events(self, guest: str) -> None:
        """Events of one kind, numbered."""
        told, main, register = self._registered(guest)
        events = self._dial(zmq.PUB, self._beside(told.events_in))
        wait_to_begin()
        again_s = time.monotonic()
        for seq, event in enumerate(made_events(guest, register.worker), start=1):
            events.send_multipart(event)
            if time.monotonic() - again_s > REGISTER_S:
                again_s = time.monotonic()
                main.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch="e", seq=seq))])
                while main.poll(0):
                    if main.recv_multipart()[0] == session.PLEASE_REGISTER:
                        main.send_multipart([session.REGISTER, pack(register)])

    def sessions(self, guest: str) -> None:
        """Heartbeats; what comes back is read and thrown away."""
        _, main, register = self._registered(guest)
        wait_to_begin()
        for batch in itertools.count():
            for number in range(BATCH):
                beat = session.Heartbeat(epoch="e", seq=batch * BATCH + number)
                main.send_multipart([session.HEARTBEAT, pack(beat)])
            while main.poll(0):
                if main.recv_multipart()[0] == session.PLEASE_REGISTER:
                    main.send_multipart([session.REGISTER, pack(register)])

    def _registered(self, guest: str) -> "tuple[HelloReply, zmq.Socket[bytes], session.Register]":
        asker = self._dial(zmq.DEALER, self._address)
        asker.send_multipart(encode_command(CommandHeader(id=HELLO_ID, guest="", op="hello", timeout_ms=10_000), Nothing()))
        told = reply_value("hello", decode_reply(asker.recv_multipart())[1])
        assert isinstance(told, HelloReply)
        main = self._dial(zmq.DEALER, self._beside(told.workers))
        register = session.Register(guest=guest, worker=new_instance(time.time_ns(), secrets.token_bytes(10)), epoch="e")
        main.send_multipart([session.REGISTER, pack(register)])
        main.recv_multipart()
        return told, main, register

    def _beside(self, place: str) -> str:
        return f"{self._address.rpartition(':')[0]}:{place}"

    def _dial(self, kind: int, endpoint: str) -> "zmq.Socket[bytes]":
        opened = self._context.socket(kind)
        opened.linger = 0
        opened.curve_publickey, opened.curve_secretkey, opened.curve_serverkey = self._keys
        opened.connect(endpoint)
        return opened


def made_events(guest: str, worker: str) -> Iterator[list[bytes]]:
    """Without end."""
    topic = event_topic(guest, "started", "c", "init")
    for seq in itertools.count(1):
        header = EventHeader(
            guest=guest, epoch="e", seq=seq, prev=seq - 1, worker=worker, time_ns=1, kind="started", container="c", process="init"
        )
        yield encode_event(topic, header, Started(pid=seq))


def wait_to_begin() -> None:
    """Until whoever started it sends SIGCONT."""
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def nothing() -> None:
    """Keeps a core busy."""
    wait_to_begin()
    for _ in made_events("g", "w"):
        continue


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "nothing":
        nothing()
    flood = Flood(*rest[:4])
    match what:
        case "events":
            flood.events(rest[4])
        case "sessions":
            flood.sessions(rest[4])
        case _:
            flood.commands(*rest[4:])
