"""A peer that is gone while its messages wait for room takes nobody with it: there libzmq aborts when it is time for a ping."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import zmq

from corral.channel import Channel
from corral_schemas.limits import EVENTS_HWM

BROKER = """
import time, zmq
from corral_broker.state.addresses import parse_bind
from corral_broker.net.sockets import Sockets

sockets = Sockets(parse_bind("tcp://127.0.0.1:0"))
context = zmq.Context()
flooder = context.socket(zmq.DEALER)
flooder.sndhwm = 0
flooder.connect(sockets.address(""))
for _ in range(40_000):
    flooder.send_multipart([b"header", b"args" * 50])
while sockets.clients.poll(0) == 0:
    time.sleep(0.01)
time.sleep(1.0)
context.destroy(linger=0)
time.sleep(SECONDS)
read = 0
while sockets.clients.poll(200):
    sockets.clients.recv_multipart()
    read += 1
sockets.close()
print("alive", read)
"""
SECONDS = 2.5
"""Longer than there is between two pings."""


def test_a_broker_lives_on_when_a_flood_ends_before_it_is_read() -> None:
    argv = [sys.executable, "-c", BROKER.replace("SECONDS", str(SECONDS))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alive"), done.stdout


def test_a_subscriber_that_may_leave_messages_waiting_sends_no_pings() -> None:
    def opened(context: zmq.Context[zmq.Socket[bytes]], receive_hwm: int) -> Channel:
        nothing = {"on_message": lambda frames: None, "on_up": lambda: None, "on_down": lambda: None}
        return Channel(context, zmq.SUB, "ipc:///tmp/nobody", receive_hwm=receive_hwm, **nothing)  # type: ignore[arg-type]

    async def work() -> None:
        with zmq.Context() as context:
            for receive_hwm, pings in [(EVENTS_HWM, False), (0, True)]:
                channel = opened(context, receive_hwm)
                assert bool(channel._socket.getsockopt(zmq.HEARTBEAT_IVL)) == pings
                channel.close()

    asyncio.run(work())
