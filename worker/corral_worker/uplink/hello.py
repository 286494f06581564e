"""The first words with a broker: it is asked, at the one address that was given, where its other sockets are."""

import asyncio
import logging

from corral_schemas.errors import CorralError
from corral_schemas.frames import CommandHeader, decode_reply, encode_command, reply_value
from corral_schemas.queries import HelloReply, Nothing
from corral_worker.uplink.dialer import Dialer

log = logging.getLogger(__name__)

HELLO_INTERVAL_S = 0.5


async def say_hello(address: str, dialer: Dialer) -> HelloReply:
    """Asks the broker for its sockets until it answers."""
    answered: asyncio.Future[HelloReply] = asyncio.get_running_loop().create_future()

    def on_burst(burst: list[list[bytes]]) -> None:
        for frames in burst:
            try:
                _, body = decode_reply(frames)
                reply = reply_value("hello", body)
            except CorralError as why:
                log.error("broker %s: hello: %s", address, why)
                continue
            if not answered.done() and isinstance(reply, HelloReply):
                answered.set_result(reply)

    socket = dialer.dial("commands", address, on_burst)
    try:
        while True:
            socket.send(encode_command(CommandHeader(id="hello", op="hello", timeout_ms=int(HELLO_INTERVAL_S * 1000)), Nothing()))
            done, _ = await asyncio.wait([answered], timeout=HELLO_INTERVAL_S)
            if done:
                return answered.result()
    finally:
        socket.close()


def broker_addresses(address: str, hello: HelloReply) -> dict[str, str]:
    """Where a broker's other sockets are, from the address that was dialled and its hello (a port, or a suffix for ipc)."""

    def beside(place: str) -> str:
        if "://" in place:  # a whole address, where the broker was told what to advertise
            return place
        return address + place if address.startswith("ipc://") else f"{address.rpartition(':')[0]}:{place}"

    return {name: beside(getattr(hello, name)) for name in ("workers", "events_in", "stdio_in")}
