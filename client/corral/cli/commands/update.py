"""corral update."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet.acting import Whom, act_on
from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.targets import find_container

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice
    from corral.cli.text.targets import Target

CFS_PERIOD_US = 100_000


@command(
    "update",
    examples=[
        ("More memory", "corral update --memory 256M g1/web"),
        ("Any member of OCI's linux.resources", 'corral update --resources \'{"cpu": {"shares": 512}}\' g1/web'),
    ],
)
@options.guest
@choice()
@click.option("-m", "--memory", type=options.SIZE, default=None, metavar="SIZE", help="Memory limit; swap adds nothing to it.")
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), default=None, metavar="X", help="Processor limit, such as 0.5.")
@click.option("--pids-limit", type=click.IntRange(min=-1), default=None, metavar="N", help="Most processes and threads; -1: no limit.")
@click.option("--resources", default="", metavar="JSON|@FILE", help="OCI linux.resources, as text or from a file here.")
@options.timeout
@options.broker
@options.containers_argument
def update(
    containers: Sequence[str],
    guest: str,
    choice: "Choice | None",
    memory: int | None,
    cpus: float | None,
    pids_limit: int | None,
    resources: str,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Change the resources of running or created containers, and print the name of each."""
    wanted = _merged(_read(resources), limits(memory, cpus, pids_limit))
    if not wanted:
        raise click.UsageError("say what to change: --memory, --cpus, --pids-limit or --resources")

    async def act(client: "AsyncClient", target: "Target") -> str:
        await (await find_container(client, target)).update(wanted)
        return target.text

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "update", act)


def limits(memory_bytes: int | None, cpus: float | None, pids_limit: int | None) -> dict[str, Any]:
    """The OCI linux.resources that these flags mean."""
    found: dict[str, Any] = {}
    if memory_bytes is not None:
        found["memory"] = {"limit": memory_bytes, "swap": memory_bytes}
    if cpus is not None:
        found["cpu"] = {"quota": int(cpus * CFS_PERIOD_US), "period": CFS_PERIOD_US}
    if pids_limit is not None:
        found["pids"] = {"limit": pids_limit}
    return found


def _read(resources: str) -> dict[str, Any]:
    if not resources:
        return {}
    try:
        text = Path(resources[1:]).read_text() if resources.startswith("@") else resources
        found = json.loads(text)
    except (OSError, ValueError) as why:
        raise click.UsageError(f"--resources: {why}") from why
    if not isinstance(found, dict):
        raise click.UsageError("--resources: a JSON object is wanted")
    return found


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` into `base`, one level deep: --cpus keeps the cpu.shares that --resources gave."""
    return {**base, **{key: {**base.get(key, {}), **value} for key, value in over.items()}}
