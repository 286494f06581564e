"""A hostile broker: garbage to a real worker, in place of its hello, and on its session. It must serve on, its memory must stay flat."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import zmq

from corral_schemas import session
from corral_schemas.frames import CommandHeader, ReplyHeader, decode_reply, encode_command, encode_reply, pack, reply_value, unpack
from corral_schemas.queries import HelloReply, InfoReply, Nothing
from corral_testkit.remains import sweep
from hostile.garbage import hello_reply, mixed, to_worker

GUEST = "fuzzed"
WAIT_S = 60.0
BATCH = 1_000
HELLO_SHARE = 1_000
"""One message in so many is an answer to its hello, at least HELLOS_MIN: it asks twice a second, and anything may come in between."""
HELLOS_MIN = 200

Report = Callable[[str, int, float, int, int, list[int]], None]


class HostileBroker:
    """The two ROUTERs that a worker dials, and the worker itself as a process; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._address = f"ipc://{directory}/b"
        self._hello = self._bound(zmq.ROUTER, "")
        self._workers = self._bound(zmq.ROUTER, ".w")
        self._events, self._stdio = self._bound(zmq.XSUB, ".ei"), self._bound(zmq.XSUB, ".si")
        for socket in (self._events, self._stdio):
            socket.send(b"\x01")
        self._session = b""
        self._log = directory / "log"
        places = ["--state-dir", str(directory / "state"), "--run-dir", str(directory / "run"), "--durability", "process"]
        self._command = [sys.executable, "-m", "corral_worker", "--guest", GUEST, "--broker", self._address, *places]

    def _bound(self, kind: int, suffix: str) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.sndhwm = 0
        socket.bind(self._address + suffix)
        return socket

    def __enter__(self) -> "HostileBroker":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(WAIT_S)
        finally:
            self._process.kill()
            self._context.destroy(linger=0)
        sweep(self._log.parent, [GUEST])  # the zygote, and shims of what it was made to begin
        if kind is None:
            log = self._log.read_text(errors="replace")
            assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:5_000]
            assert status == 0, log[-3_000:]

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def answer_hello(self, rng: random.Random, garbage: int) -> None:
        """So much garbage, then a good answer; returns when the worker has registered."""
        identity = self._receive(self._hello)[0]
        for number in range(garbage):
            frames = mixed(rng, number, hello_reply)
            if number % 4 == 1:  # the good ones would end it
                frames = frames[:1]
            self._hello.send_multipart([identity, *frames])
        self._say_hello(identity)
        while True:
            frames = self._receive(self._workers)
            if frames[1] == session.REGISTER:
                self._session = frames[0]
                return

    def _say_hello(self, identity: bytes) -> None:
        places = {"workers": ".w", "events_in": ".ei", "events_out": ".eo", "stdio_in": ".si", "stdio_out": ".so"}
        reply = HelloReply(version="1", protocol=1, instance="0" * 26, heartbeat_ms=5_000, shares_args=False, rate_per_s=0, **places)
        self._hello.send_multipart([identity, *encode_reply(ReplyHeader(id="hello"), reply)])

    def throw(self, rng: random.Random, count: int) -> None:
        """So many hostile messages on its session; returns when it has answered a command that was sent after them."""
        good = to_worker(GUEST)
        for number in range(count):
            self._workers.send_multipart([self._session, *mixed(rng, number, good)])
        self._register()
        assert self.ask().guest == GUEST

    def ask(self) -> InfoReply:
        """The worker's own info. Raises AssertionError when it does not come."""
        ref = os.urandom(8)
        header = CommandHeader(id=f"ask-{ref.hex()}", guest=GUEST, op="info", timeout_ms=int(WAIT_S * 1000))
        self._workers.send_multipart([self._session, session.COMMAND, ref, *encode_command(header, Nothing())])
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            frames = self._receive(self._workers)
            if frames[1] == session.REGISTER and unpack(session.Register, frames[2]).role == "main":
                self._session = frames[0]
                self._register()
            elif frames[1] == session.REPLY and frames[2] == ref:
                reply = reply_value("info", decode_reply(frames[3:])[1])
                assert isinstance(reply, InfoReply)
                return reply
        raise AssertionError("the worker answers no more")

    def _register(self) -> None:
        welcome = session.Registered(broker="0" * 26, heartbeat_ms=5_000)
        self._workers.send_multipart([self._session, session.REGISTERED, pack(welcome)])

    def _receive(self, socket: "zmq.Socket[bytes]") -> list[bytes]:
        """The next message; a worker that dials anew, since it took us for silent, gets its answer meanwhile."""
        end_s = time.monotonic() + WAIT_S
        while not socket.poll(100):
            assert time.monotonic() < end_s, f"the worker is silent (status {self._process.poll()}): {self._log.read_text()[-3_000:]}"
            if socket is not self._hello and self._hello.poll(0):
                self._say_hello(self._hello.recv_multipart()[0])
        return socket.recv_multipart()


def fuzz(messages: int, seed: int, report: Report) -> None:
    """So many messages to one worker, in all."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="crl") as directory, HostileBroker(Path(directory)) as broker:
        hellos = min(messages, max(HELLOS_MIN, messages // HELLO_SHARE))
        broker.answer_hello(rng, hellos)
        started_s, rss, sent, tenths = time.monotonic(), 0, hellos, [broker.rss_bytes()]
        while sent < messages:
            size = min(BATCH, messages - sent)
            broker.throw(rng, size)
            sent += size
            if sent <= messages // 4 or not rss:
                rss = broker.rss_bytes()
            if sent * 10 // messages >= len(tenths):
                tenths.append(broker.rss_bytes())
        report("worker", sent, time.monotonic() - started_s, rss, broker.rss_bytes(), tenths)
