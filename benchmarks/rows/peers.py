"""Other systems, measured only where they are installed."""

import shutil
import subprocess

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


ROWS: dict[str, Row] = {peer: _row(peer) for peer in COMMANDS}
