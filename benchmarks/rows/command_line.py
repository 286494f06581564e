"""The command line: how long a user waits for it, warm and with nothing in the page cache."""

import os
import sys
from pathlib import Path

from corral import AsyncClient
from kit.bare_runc import wait_for
from kit.bench import Bench, Row, pairs
from kit.figures import Figure

CORRAL = "import sys; from corral.cli.main import main; sys.argv[0] = 'corral'; main()"
HELP_BASELINE = "import click"
PS_BASELINE = "import asyncio, click, msgpack, msgspec, zmq"


def _python(*arguments: str) -> None:
    """A new interpreter to its end. Raises ValueError."""
    argv = [sys.executable, *arguments]
    # as an installed copy has it: compiled (the first pairs see to that)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    out = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
    status = wait_for(os.posix_spawn(argv[0], argv, environment, file_actions=out))
    if status != 0:
        raise ValueError(f"{' '.join(argv)} ended with {status}")


async def help_(bench: Bench) -> list[Figure]:
    """corral --help beside the import of click alone."""
    ours, base = await pairs(lambda: _python("-c", CORRAL, "--help"), lambda: _python("-c", HELP_BASELINE), bench.rounds(20, 100))
    name = "corral --help"
    return [Figure(name=name, unit="ms", samples=ours, baseline=HELP_BASELINE, baseline_samples=base, target="≤ 1.50 ×", ratio_max=1.5)]


async def ps(bench: Bench) -> list[Figure]:
    """corral ps of a guest with 10 containers beside the import of the libraries it needs."""
    with bench.fleet() as fleet:
        async with AsyncClient(fleet.address) as client:
            await bench.guests_up(client, 1)
            bundle = bench.bundle("sleep", "100000")
            made = [await client.guest("g1").run(f"c{number}", bundle=bundle) for number in range(10)]
            ours, base = await pairs(
                lambda: _python("-c", CORRAL, "--broker", fleet.address, "ps"),
                lambda: _python("-c", PS_BASELINE),
                bench.rounds(20, 100),
            )
            for container in made:
                await container.delete(force=True)
    return [
        Figure(name="corral ps", unit="ms", samples=ours, baseline=PS_BASELINE, baseline_samples=base, target="≤ 1.60 ×", ratio_max=1.6)
    ]


async def cold(bench: Bench) -> list[Figure]:
    """The same with the page cache dropped before each run (not in the quick mode: it slows everybody down)."""
    if not bench.full:
        return []
    drop = Path("/proc/sys/vm/drop_caches")

    def after_drop(code: str, *arguments: str) -> None:
        drop.write_text("1")
        _python("-c", code, *arguments)

    ours, base = await pairs(lambda: after_drop(CORRAL, "--help"), lambda: after_drop(HELP_BASELINE), 5, warm_up=1)
    return [Figure(name="corral --help, cold page cache", unit="ms", samples=ours, baseline=HELP_BASELINE, baseline_samples=base)]


ROWS: dict[str, Row] = {"help": help_, "ps": ps, "cold": cold}
