"""corral wait."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.fleet.acting import Whom, act_on
from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.failures import FAILED
from corral.cli.text.targets import find_process

if TYPE_CHECKING:
    from corral import AsyncClient, Exit
    from corral.cli.fleet.selecting import Choice
    from corral.cli.text.targets import Target
    from corral.process import Process


@command(
    "wait",
    examples=[
        ("The code, once it is there", "corral wait g1/job"),
        ("For a limited time", "corral wait --for 30s g1/job || echo 'still at it'"),
        ("The same job in every guest, with a limit", "corral wait --select all --for 10m job"),
        ("How it ended, in full", "corral wait --json g1/job"),
    ],
    statuses=(
        ("0", "all have ended, with a known exit"),
        ("1", "an exit is lost, or one of the processes could not be waited for"),
        ("2", "wrong usage"),
        ("130", "interrupted"),
        ("255", "no broker answered within 5 s"),
    ),
)
@options.guest
@choice(at_once=True)
@click.option("--for", "patience_s", type=options.DURATION, default=None, metavar="DURATION", help="Wait so long at most.")
@options.json_only
@options.timeout
@options.broker
@options.containers_argument
def wait(
    containers: Sequence[str],
    guest: str,
    choice: "Choice | None",
    patience_s: float | None,
    as_json: bool,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Wait until processes have ended, and print the code of each: one a line, in the order given.

    It may be asked before or after the exit, and again. A process killed by signal N has the code 128+N, one that could not be started
    127, 126 or 125; if the exit is unknown, `lost` is printed and the status is 1.
    """
    ends: list[Exit] = []

    async def act(client: "AsyncClient", target: "Target") -> str:
        process = await find_process(client, target)
        ends.append(end := await process.wait(patience_s))
        return _line(process, end, as_json=as_json)

    status = act_on(Whom(containers, guest, choice, broker, timeout_s), "wait", act, processes=True, tagged=not as_json)
    return FAILED if any(end.type == "lost" for end in ends) else status


def _line(process: "Process", end: "Exit", *, as_json: bool) -> str:
    from corral import shell_status

    if as_json:
        from corral.cli.text.output import json_line
        from corral.cli.text.records import end_record

        return json_line(end_record(process, end))
    return "lost" if end.type == "lost" else str(shell_status(end))
