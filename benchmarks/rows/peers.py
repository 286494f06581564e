"""Other systems, measured only where they are installed."""

import asyncio
import shutil
import subprocess
import time
from typing import Any

from kit.bare_runc import wait_for
from kit.bench import Bench, Row, pairs
from kit.figures import Figure, MissingError

IMAGE = "busybox"
COMMANDS = {
    "docker": ["docker", "run", "--rm", "--network", "none", IMAGE, "true"],
    "podman": ["podman", "run", "--rm", "--network", "none", IMAGE, "true"],
    "ctr": ["ctr", "run", "--rm", "docker.io/library/busybox:latest", "corral-bench-peer", "true"],
}


def _row(peer: str) -> Row:
    async def run(bench: Bench) -> list[Figure]:
        command = COMMANDS[peer]
        if shutil.which(command[0]) is None:
            raise MissingError(peer)
        probe = subprocess.run(command, capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            why = (probe.stderr.strip().splitlines() or [f"status {probe.returncode}"])[0]
            raise MissingError(f"{peer} that can run {IMAGE} ({why[:120]})")
        bare = bench.bare()
        try:
            bundle = bare.bundle("true", ["true"])

            def peer_run() -> None:
                subprocess.run(command, check=True, capture_output=True)

            def baseline() -> None:
                bare.run_to_end(bundle)

            ours, base = await pairs(peer_run, baseline, bench.rounds(5, 20), warm_up=1)
        finally:
            bare.close()
        name = f"{' '.join(command[:3])} true"
        return [Figure(name=name, unit="ms", samples=ours, baseline="runc create, start, wait, delete", baseline_samples=base)]

    return run


async def nats_round_trips(bench: Bench, in_flight: int) -> list[Figure]:
    """Requests a second with so many in flight, one responder in the same event loop. Raises OSError where the server does not start."""
    import nats  # type: ignore[import-not-found,unused-ignore]

    server = subprocess.Popen(["nats-server", "-a", "127.0.0.1", "-p", "14222"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await asyncio.sleep(0.5)
        connection: Any = await nats.connect("nats://127.0.0.1:14222")

        async def respond(message: Any) -> None:
            await message.respond(b"x" * 100)

        await connection.subscribe("bench", cb=respond)
        count, rates = bench.rounds(10_000, 50_000), []
        for _ in range(3):
            left = iter(range(count))

            async def lane(left: Any = left) -> None:
                for _ in left:
                    await connection.request("bench", b"x" * 100, timeout=10)

            begun = time.perf_counter()
            await asyncio.gather(*(lane() for _ in range(in_flight)))
            rates.append(count / (time.perf_counter() - begun))
        await connection.close()
    finally:
        server.terminate()
        wait_for(server.pid)
    return [Figure(name=f"nats-py request-reply, {in_flight} in flight", unit="per s", samples=rates)]


ROWS: dict[str, Row] = {peer: _row(peer) for peer in COMMANDS}
