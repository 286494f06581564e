"""Round trips through the broker with many in flight, beside a bare loop."""

import asyncio
import secrets
import time

import zmq

from corral_schemas.commands import ContainerTarget
from corral_schemas.frames import CommandHeader, encode_command
from kit.bench import Bench, Row, pairs
from kit.figures import Figure
from rows.events import side_process

IN_FLIGHT = 256


async def round_trips(bench: Bench) -> list[Figure]:
    """Commands a second, 256 in flight, to a guest that answers at once; the same frames through a bare ROUTER/ROUTER loop."""
    count = bench.rounds(15_000, 50_000)
    place = f"ipc://{bench.fresh('bare')}"
    with bench.fleet(guests=0) as fleet:
        guest = side_process("kit.sim_guests", fleet.address, "g", "1", log=bench.fresh("log"))
        loop = side_process("kit.bare_zmq", "router", place + ".c", place + ".w", log=bench.fresh("log"))
        echo = side_process("kit.bare_zmq", "echo", place + ".w", log=bench.fresh("log"))
        try:
            ours, base = await pairs(
                lambda: asyncio.to_thread(_round_trips_per_s, fleet.address, count),
                lambda: asyncio.to_thread(_round_trips_per_s, place + ".c", count),
                bench.rounds(5, 7),
                warm_up=1,
            )
        finally:
            for process in (guest, loop, echo):
                process.stop()
    return [
        Figure(
            name=f"round trips, {IN_FLIGHT} in flight",
            unit="per s",
            samples=ours,
            baseline="bare pyzmq ROUTER/ROUTER loop, same frames",
            baseline_samples=base,
            target="≥ 0.80 ×",
            ratio_min=0.8,
        )
    ]


def _round_trips_per_s(address: str, count: int) -> float:
    messages = [
        encode_command(CommandHeader(id=secrets.token_hex(16), guest="g1", op="pause", timeout_ms=60_000), ContainerTarget(container="c"))
        for _ in range(count)
    ]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.rcvtimeo = 30_000
        socket.connect(address)
        waiting = iter(messages)
        begun = time.perf_counter()
        for _ in range(min(IN_FLIGHT, count)):
            socket.send_multipart(next(waiting))
        for _ in range(count):
            socket.recv_multipart()
            message = next(waiting, None)
            if message is not None:
                socket.send_multipart(message)
        return count / (time.perf_counter() - begun)
    finally:
        context.destroy(linger=0)


ROWS: dict[str, Row] = {"router": round_trips}
