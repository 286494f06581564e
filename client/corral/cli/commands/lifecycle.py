"""corral kill, stop, pause, resume, delete: one act on each of several containers, whose names are printed when it is done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.fleet.acting import Whom, act_on
from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.targets import Target, container_only, find_container, find_process

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice


@command(
    "kill",
    examples=[
        ("End it at once", "corral kill g1/web"),
        ("Another signal, to one exec", "corral kill -s HUP g1/web/worker"),
        ("To every process in the container", "corral kill --all -s TERM web"),
        ("The same container in many guests, without confirmation", "corral kill --select role=web --yes web"),
    ],
)
@options.guest
@choice(destroys=True)
@click.option(
    "-s",
    "--signal",
    type=options.SIGNAL_OR_ZERO,
    default="KILL",
    show_default=True,
    metavar="SIG",
    shell_complete=options.complete_signals,
    help="Name or number; 0 sends nothing and fails if the process has ended.",
)
@click.option("--all", "everything", is_flag=True, help="To every process in the container; no error if none is left.")
@options.timeout
@options.broker
@options.containers_argument
def kill(
    containers: Sequence[str], guest: str, choice: "Choice | None", signal: int, everything: bool, timeout_s: float, broker: str | None
) -> int:
    """Send a signal to containers' init processes, or to the execs named by GUEST/NAME/EXEC, and print the name of each.

    It never waits behind another command, and KILL reaches a paused container too.
    """

    async def act(client: "AsyncClient", target: Target) -> str:
        if everything:
            await (await find_container(client, container_only(target))).kill(signal, all=True)
        else:
            await (await find_process(client, target)).kill(signal)
        return target.text

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "kill", act, processes=True, destroys=signal != 0)


@command(
    "stop",
    examples=[
        ("Ask, then kill after 10 s", "corral stop g1/web"),
        ("A longer time, with another signal", "corral stop -t 60 -s INT web"),
        ("All containers in some guests, four at a time", "corral stop --select 'web-*' --window 4 '*'"),
    ],
)
@options.guest
@choice(destroys=True)
@click.option(
    "-t",
    "--time",
    "grace_s",
    type=options.DURATION,
    default="10",
    show_default=True,
    metavar="DURATION",
    help="Time between signal and KILL.",
)
@click.option(
    "-s",
    "--signal",
    type=options.SIGNAL,
    default="TERM",
    show_default=True,
    metavar="SIG",
    shell_complete=options.complete_signals,
    help="The first signal.",
)
@options.timeout
@options.broker
@options.containers_argument
def stop(
    containers: Sequence[str], guest: str, choice: "Choice | None", grace_s: float, signal: int, timeout_s: float, broker: str | None
) -> int:
    """Send SIGTERM to containers, SIGKILL to those that have not ended in time, and print the name of each when it has ended."""

    async def act(client: "AsyncClient", target: Target) -> str:
        await (await find_container(client, target)).stop(grace_s, signal)
        return target.text

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "stop", act, destroys=True)


@command("pause", examples=[("Freeze it", "corral pause g1/web")])
@options.guest
@choice()
@options.timeout
@options.broker
@options.containers_argument
def pause(containers: Sequence[str], guest: str, choice: "Choice | None", timeout_s: float, broker: str | None) -> int:
    """Freeze all processes of containers, and print the name of each."""

    async def act(client: "AsyncClient", target: Target) -> str:
        await (await find_container(client, target)).pause()
        return target.text

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "pause", act)


@command("resume", examples=[("Resume it", "corral resume g1/web")])
@options.guest
@choice()
@options.timeout
@options.broker
@options.containers_argument
def resume(containers: Sequence[str], guest: str, choice: "Choice | None", timeout_s: float, broker: str | None) -> int:
    """Resume paused containers, and print the name of each."""

    async def act(client: "AsyncClient", target: Target) -> str:
        await (await find_container(client, target)).resume()
        return target.text

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "resume", act)


@command(
    "delete",
    examples=[
        ("One that has stopped", "corral delete g1/job"),
        ("In any state", "corral rm -f g1/web"),
        ("Free the id of an exec that has ended", "corral delete g1/web/backup"),
    ],
)
@options.guest
@choice(destroys=True)
@click.option("-f", "--force", is_flag=True, help="Kill its processes first; it is no error if it does not exist.")
@options.timeout
@options.broker
@options.containers_argument
def delete(containers: Sequence[str], guest: str, choice: "Choice | None", force: bool, timeout_s: float, broker: str | None) -> int:
    """Delete containers that have stopped or never ran, and print the name of each. Also spelled `corral rm`.

    Their output and exits stay readable in the guest for a day: `corral logs`, `corral wait`.
    """

    async def act(client: "AsyncClient", target: Target) -> str:
        from corral import NotFoundError

        try:
            if target.process:
                await (await find_process(client, target)).delete()
            else:
                await (await find_container(client, target)).delete(force=force)
        except NotFoundError:
            if not force:
                raise
        return target.text

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "delete", act, processes=True, destroys=True)
