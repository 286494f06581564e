"""corral start."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.fleet.acting import Whom, act_on
from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.targets import container_only, find_container, parse_target, path_of

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice
    from corral.cli.text.targets import Target


@command(
    "start",
    examples=[("Start what `corral create` made", "corral start g1/job"), ("Start it and stay", "corral start -a g1/job")],
    statuses=(
        ("0", "started"),
        ("1", "failed, for one or more of the containers"),
        ("2", "wrong usage"),
        ("255", "no broker answered within 5 s"),
        ("with -a", "as `corral run`"),
    ),
)
@options.guest
@choice()
@click.option("-a", "--attach", is_flag=True, help="Stay, with its output here, and end with its status.")
@click.option("-i", "--interactive", is_flag=True, help="With -a: send it your stdin too.")
@options.detach_keys
@options.timeout
@options.broker
@options.containers_argument
def start(
    containers: Sequence[str],
    guest: str,
    choice: "Choice | None",
    attach: bool,
    interactive: bool,
    detach_keys: bytes,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Start created containers, and print the name of each.

    A container runs once: one that has stopped is not started again, but made anew with `corral run`.
    """
    from corral.cli.shell.session import with_client

    if attach and (choice or len(containers) > 1):
        raise click.UsageError("-a takes one container")
    if interactive and not attach:
        raise click.UsageError("-i goes with -a")
    if not attach:
        return act_on(Whom(containers, guest, choice, broker, timeout_s), "start", _start)
    target = container_only(parse_target(containers[0], guest))

    async def attached(client: "AsyncClient") -> int:
        from corral.cli.foreground.foreground import Foreground, ForegroundOptions
        from corral.cli.foreground.signals import SignalInbox

        container = await find_container(client, target)
        state = await container.state()
        tty = any(process.tty for process in state.processes if process.process == "init")
        manner = ForegroundOptions(path=path_of(container), tty=tty, stdin=interactive, detach_keys=detach_keys)
        with SignalInbox(passed_on=True) as inbox:
            await container.start()
            if tty:
                inbox.resized.set()
            return await Foreground(container.init, manner, inbox).run()

    return with_client(broker, attached, timeout_s=timeout_s)


async def _start(client: "AsyncClient", target: "Target") -> str:
    await (await find_container(client, target)).start()
    return target.text
