"""corral up."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from corral.cli.shell.command import command
from corral.cli.shell.options import DURATION
from corral.cli.text.failures import Failed, say
from corral.cli.up.run_dir import SOCKET_NAME, RunDir, check_ours, default_run_dir, default_state_dir, is_at_work
from corral.cli.up.supervisor import Child

if TYPE_CHECKING:
    from corral.cli.shell.contexts import Context

CLEAR_CONNECT_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Plan:
    """What `up` starts."""

    guests: Sequence[str]
    state_dir: Path
    run_dir: Path
    worker_options: Sequence[str]
    keep: bool
    grace_s: float
    as_json: bool

    @property
    def address(self) -> str:
        return f"ipc://{self.run_dir / SOCKET_NAME}"

    def broker(self) -> Child:
        argv = [sys.executable, "-m", "corral_broker", "--bind", self.address, "--state-dir", str(self.state_dir / "broker")]
        return Child("broker", argv)

    def worker(self, guest: str) -> Child:
        argv = [sys.executable, "-m", "corral_worker", "--guest", guest, "--broker", self.address]
        argv += ["--state-dir", str(self.state_dir / guest), "--run-dir", str(self.run_dir / guest), *self.worker_options]
        return Child(f"worker of {guest}", argv)


@command(
    "up",
    examples=[
        ("A broker and two guests, on this machine", "corral up --guests 2"),
        ("In other directories; clients find it by CORRAL_BROKER", "corral up --state-dir /srv/c/state --run-dir /srv/c/run"),
        ("Containers outlive it, and the next one finds them", "corral up --keep"),
    ],
    statuses=(("0", "ended by Ctrl-C or SIGTERM, everything stopped"), ("1", "could not start"), ("2", "wrong usage")),
)
@click.option("--guests", "count", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="How many guests: g1 to gN.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="DIR",
    help="What survives a reboot: journals and output. Default: /var/lib/corral for root.",
)
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="DIR",
    help="Sockets and the address file. Default: /run/corral for root, else $XDG_RUNTIME_DIR/corral.",
)
@click.option("--keep", is_flag=True, help="Leave containers running at the end.")
@click.option(
    "-t",
    "--time",
    "grace_s",
    type=DURATION,
    default="10",
    show_default=True,
    metavar="DURATION",
    help="At the end: time between SIGTERM and SIGKILL for containers.",
)
@click.option("--runtime", default="", metavar="PATH", help="OCI runtime of the guests. Default: runc.")
@click.option(
    "--durability",
    type=click.Choice(["power", "process"]),
    default=None,
    help="What announced events survive: a power cut (the default), or the death of processes.",
)
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Label of every guest. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the ready line as JSON.")
def up(
    count: int,
    state_dir: Path | None,
    run_dir: Path | None,
    keep: bool,
    grace_s: float,
    runtime: str,
    durability: str | None,
    labels: Sequence[str],
    as_json: bool,
) -> int:
    """Start a broker and workers for guests g1 to gN on this machine, and keep them running until Ctrl-C or SIGTERM.

    The address is printed, and written to the file `address` in the run directory, where every command looks for it, and to the
    context `local`, unless that belongs to another `corral up` that runs. A broker or worker that dies is started again at once;
    containers keep running.

    At the end containers are stopped and deleted (their output and exits stay readable for a day), then the workers end, then the
    broker. A second Ctrl-C kills the containers without waiting. With --keep containers keep running, and the next `corral up` on the
    same directories finds them.
    """
    options = [*(("--runtime", runtime) if runtime else ()), *(("--durability", durability) if durability else ())]
    for label in labels:
        options += ["--label", label]
    plan = Plan(
        guests=[f"g{number}" for number in range(1, count + 1)],
        state_dir=(state_dir or default_state_dir()).absolute(),
        run_dir=(run_dir or default_run_dir()).absolute(),
        worker_options=options,
        keep=keep,
        grace_s=grace_s,
        as_json=as_json,
    )
    directory = RunDir(plan.run_dir)
    directory.take()
    try:
        check_ours(plan.state_dir)
        asyncio.run(_run(plan, directory))
    finally:
        directory.leave()
    return 0


class _Orders:
    """What signals ask for: to end, and (a second one) to hurry."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.hurry = asyncio.Event()

    def __call__(self) -> None:
        if self.end.is_set():
            self.hurry.set()
        self.end.set()


async def _run(plan: Plan, directory: RunDir) -> None:
    orders = _Orders()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, orders)
    broker, workers = plan.broker(), [plan.worker(guest) for guest in plan.guests]
    try:
        ready = asyncio.create_task(_start(plan, directory, broker, workers))
        ending = asyncio.create_task(orders.end.wait())
        await asyncio.wait({ready, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # cancelled by us, where the order to end came before all were ready
            await ready
        await ending
        if not plan.keep:
            await _clear(plan, orders.hurry)
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
        await broker.stop()


async def _start(plan: Plan, directory: RunDir, broker: Child, workers: Sequence[Child]) -> None:
    await broker.start()
    await asyncio.gather(*(worker.start() for worker in workers))
    directory.announce(plan.address)
    _write_context(plan.address)
    if plan.as_json:
        from corral.cli.text.output import json_line

        click.echo(json_line({"ready": plan.address, "guests": list(plan.guests), "run_dir": str(plan.run_dir)}))
    else:
        click.echo(f"corral up ready at {plan.address} with guests {' '.join(plan.guests)}")
    sys.stdout.flush()


def _write_context(address: str) -> None:
    """The context `local`, unless it is another `up`'s that runs, or a person's own. Which one is current is the person's choice.

    They are told of either, since commands go elsewhere then.
    """
    from corral import CorralError
    from corral.cli.shell import contexts

    try:
        current = next((one.name for one in contexts.known() if one.current and one.name != contexts.LOCAL), "")
        kept = contexts.put(contexts.Context(contexts.LOCAL, address), lambda there: there.broker != address and _is_others(there))
    except (CorralError, Failed) as why:
        say(f"the context {contexts.LOCAL!r} was not written: {why}")
        return
    if kept:
        say(f"the context {contexts.LOCAL!r} stays as it is, with {kept.broker}", hint=f"for this one: export CORRAL_BROKER={address}")
    elif current:
        say(f"commands go to the current context, {current!r}", hint=f"corral context use {contexts.LOCAL}")


def _is_others(context: "Context") -> bool:
    return bool(context.key or context.server_key) or any(is_at_work(address.strip()) for address in context.broker.split(","))


async def _clear(plan: Plan, hurry: asyncio.Event) -> None:
    from corral import CorralError
    from corral.cli.shell.session import opened
    from corral.cli.up.clearing import clear_containers

    try:
        client = await opened(plan.address, connect_timeout_s=CLEAR_CONNECT_TIMEOUT_S)
        try:
            cleared = await clear_containers(client, plan.guests, plan.grace_s, hurry)
        finally:
            await client.close()
    except (CorralError, Failed) as why:
        say(f"containers are left as they are: {why}")
        return
    if cleared:
        say(f"{cleared} container{'s' if cleared > 1 else ''} stopped and deleted")
