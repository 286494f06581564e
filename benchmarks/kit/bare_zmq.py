"""Baselines of raw pyzmq, each a process of its own: `python -m kit.bare_zmq router|echo|hold|proxy|publish …`.

router CLIENTS WORKERS: a ROUTER/ROUTER loop with a Poller and a NOBLOCK drain, nothing else.  echo WORKERS: a DEALER that answers.
hold PREFIX: the broker's kinds of sockets, bound, with peers that only stay.  peers PREFIX COUNT: those peers.
proxy IN OUT: zmq.proxy between XSUB and XPUB.  publish IN COUNT WINDOW: numbered 100-byte messages in a window.
"""

import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from kit.sim_guests import WINDOW, allow_descriptors

BURST = 256


def router(clients: str, workers: str) -> None:
    """[client, header, args] → the one worker; [worker, client, header, body] → that client."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    for socket, place in ((front, clients), (back, workers)):
        socket.sndhwm = socket.rcvhwm = 100_000
        socket.bind(place)
    print("ready", flush=True)
    worker = back.recv_multipart()[0]
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        for source, sink in ((front, back), (back, front)):
            if source in ready:
                _forward(source, sink, worker if source is front else None)


def _forward(source: "zmq.Socket[bytes]", sink: "zmq.Socket[bytes]", worker: bytes | None) -> None:
    try:
        for _ in range(BURST):
            frames = source.recv_multipart(zmq.NOBLOCK)
            sink.send_multipart([worker, *frames] if worker is not None else frames[1:], zmq.NOBLOCK)
    except zmq.Again:
        return


def echo(workers: str) -> None:
    """A worker that sends everything back."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(workers)
    socket.send(b"here")
    print("ready", flush=True)
    while True:
        socket.send_multipart(socket.recv_multipart())


def hold(prefix: str, count: str) -> None:
    """What a broker must hold for so many guests, if it did nothing with it: ROUTER and XSUB, their peers connected and greeted."""
    allow_descriptors(4 * int(count) + 200)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    workers, events = context.socket(zmq.ROUTER), context.socket(zmq.XSUB)
    workers.bind(prefix + ".w")
    events.bind(prefix + ".e")
    events.send(b"\x01")
    print("ready", flush=True)
    for _ in range(int(count)):
        workers.send_multipart(workers.recv_multipart())
    time.sleep(3600)


def peers(prefix: str, count: str) -> None:
    """Guests' kinds of sockets, each greeted once."""
    allow_descriptors(4 * int(count) + 200)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * int(count) + 100)
    kept = []
    for _ in range(int(count)):
        main, events = context.socket(zmq.DEALER), context.socket(zmq.PUB)
        main.connect(prefix + ".w")
        events.connect(prefix + ".e")
        main.send(b"register" + bytes(100))
        kept.append((main, events))
    for main, _ in kept:
        main.recv()
    print("ready", flush=True)
    time.sleep(3600)


def proxy(place_in: str, place_out: str) -> None:
    """The exchange in C."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    front.rcvhwm = back.sndhwm = 100_000
    front.bind(place_in)
    back.bind(place_out)
    print("ready", flush=True)
    zmq.proxy(front, back)


def publish(place_in: str, count: str, window_path: str) -> None:
    """Numbered messages of 100 bytes; the first ones again and again until somebody has seen one."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.sndhwm = 100_000
    socket.connect(place_in)
    with Path(window_path).open("r+b") as file:
        window = mmap.mmap(file.fileno(), 8)
    print("ready", flush=True)
    sent = 0
    while sent < int(count):
        read = struct.unpack_from("q", window)[0]
        if read < 0:
            socket.send_multipart([b"event/warm", b"", b""])
            time.sleep(0.001)
            continue
        while sent < min(int(count), read + WINDOW):
            sent += 1
            socket.send_multipart([b"event/p1/started/bench/init", b"%0100d" % sent, bytes(100)])
    time.sleep(3600)


ROLES: dict[str, Callable[..., None]] = {"router": router, "echo": echo, "hold": hold, "peers": peers, "proxy": proxy, "publish": publish}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
