"""corral stats."""

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet.away import Away
from corral.cli.fleet.selecting import guests_asked, select
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.failures import FAILED, say
from corral.cli.text.progress import waiting
from corral.cli.text.targets import container_only, find_container, parse_target

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.text.output import Column, Record
    from corral.cli.text.targets import Target
    from corral.container import Container
    from corral.selectors import Selector
    from corral_schemas.containers import ContainerStats

FIRST_INTERVAL_S = 0.5
"""Between the two readings that the first processor figure needs."""


@command(
    "stats",
    examples=[
        ("Everything that runs, live", "corral stats"),
        ("Once, for a script", "corral stats --no-stream --json | jq -c '{path, memory_bytes}'"),
    ],
    statuses=(
        ("0", "done"),
        ("1", "a container named could not be read, or a guest did not answer"),
        ("2", "wrong usage"),
        ("130", "interrupted"),
        ("255", "no broker"),
    ),
)
@options.guest
@select
@click.option("--no-stream", is_flag=True, help="Print once and end.")
@click.option(
    "--interval", "interval_s", type=options.DURATION, default="1s", show_default=True, metavar="DURATION", help="Between readings."
)
@options.formats
@options.timeout
@options.broker
@click.argument("containers", metavar="[CONTAINER...]", nargs=-1, shell_complete=options.complete_containers)
def stats(
    containers: Sequence[str],
    guest: str,
    select: "Selector | None",
    no_stream: bool,
    interval_s: float,
    form: str | None,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Show what containers use: those named, or all that run."""
    from corral.cli.shell.session import with_client

    if select and (containers or guest):
        raise click.UsageError("--select is for all that runs there: it goes neither with --guest nor with CONTAINER")
    targets = [container_only(parse_target(text, guest)) for text in containers]

    async def body(client: "AsyncClient") -> int:
        away = Away([guest] if guest else [], select)
        sampler = Sampler(client, targets, await guests_asked(client, [guest] if guest else [], select), away)
        async with waiting("reading what containers use"):
            await sampler.sample()
            await asyncio.sleep(min(FIRST_INTERVAL_S, interval_s))
            records = await sampler.sample()
        if no_stream:
            from corral.cli.text.output import print_records

            print_records(records, _columns(), form)
        else:
            await _stream(sampler, interval_s, form)
        return FAILED if sampler.failed else 0

    return with_client(broker, body, timeout_s=timeout_s)


async def _stream(sampler: "Sampler", interval_s: float, form: str | None) -> None:
    from corral.cli.text import output
    from corral.cli.text.terminal import can_redraw

    if output.chosen_format(form) != "table":
        while True:
            for record in await sampler.sample():
                click.echo(output.line_of(record, output.chosen_format(form)))
            sys.stdout.flush()
            await asyncio.sleep(interval_s)
    if not can_redraw(sys.stdout):
        while True:
            output.console().print(output.table(await sampler.sample(), _columns()))
            await asyncio.sleep(interval_s)
    from rich.live import Live

    with Live(console=output.console(), auto_refresh=False, transient=False) as live:
        while True:
            live.update(output.table(await sampler.sample(), _columns()), refresh=True)
            await asyncio.sleep(interval_s)


class Sampler:
    """Reads the figures of the containers again and again; keeps the last reading of each, for rates."""

    def __init__(self, client: "AsyncClient", targets: "Sequence[Target]", guests: "list[str] | None", away: Away) -> None:
        self._client = client
        self._targets = targets
        self._guests = guests
        self._away = away
        self._before: dict[str, ContainerStats] = {}
        self.failed: set[str] = set()
        """Containers named on the command line that could not be read, and guests that do not answer: each is said once."""

    async def sample(self) -> "list[Record]":
        """One record for each container."""
        found = await asyncio.gather(*(self._read(path, container) for path, container in await self._containers()))
        return [record for record in found if record is not None]

    async def _containers(self) -> "list[tuple[str, Container]]":
        if self._targets:
            return [(target.text, await find_container(self._client, target)) for target in self._targets]
        fleet = await self._client.list(self._guests)
        for name, why in fleet.silent.items():
            if name not in self.failed and not self._away.takes(name, why):
                self.failed.add(name)
                say(f"guest {name} did not answer: {why}")
        self._away.say()
        running = [state for state in fleet.containers if state.status in ("running", "paused")]
        running.sort(key=lambda state: (state.guest, state.id))
        return [(f"{s.guest}/{s.id}", self._client.guest(s.guest).container(s.id, s.instance)) for s in running]

    async def _read(self, text: str, container: "Container") -> "Record | None":
        from corral import CorralError
        from corral.cli.text.output import as_record

        path = f"{container.guest}/{container.name}"
        try:
            now = await container.stats()
        except CorralError as why:
            if self._targets and path not in self.failed:
                self.failed.add(path)
                say(f"{text}: {why}")
            return None
        before = self._before.get(path)
        self._before[path] = now
        return {"path": path, "guest": container.guest, "container": container.name, "cpu_percent": _cpu(before, now), **as_record(now)}


def _cpu(before: "ContainerStats | None", now: "ContainerStats") -> float | None:
    """Percent of one core since the reading before; None where there is none."""
    if before is None or before.cpu_ns is None or now.cpu_ns is None or now.time_ns <= before.time_ns:
        return None
    return round(max(0.0, 100 * (now.cpu_ns - before.cpu_ns) / (now.time_ns - before.time_ns)), 2)


def _columns() -> "list[Column]":
    from corral.cli.text.output import Column
    from corral.units import size_text

    def out_of(value: Any, limit: Any) -> str:
        return f"{value} / {limit}" if limit else str(value)

    return [
        Column("CONTAINER", lambda r: r["path"], "bold"),
        Column("CPU", lambda r: "-" if r["cpu_percent"] is None else f"{r['cpu_percent']:.1f} %"),
        Column("MEMORY", lambda r: out_of(size_text(r["memory_bytes"]), r["memory_limit_bytes"] and size_text(r["memory_limit_bytes"]))),
        Column("PIDS", lambda r: out_of("-" if r["pids"] is None else r["pids"], r["pids_limit"])),
        Column("STDOUT", lambda r: size_text(r["stdout_bytes"])),
        Column("STDERR", lambda r: size_text(r["stderr_bytes"])),
        Column("OOM", lambda r: str(r["oom_kills"] or "-"), lambda r: "red" if r["oom_kills"] else ""),
    ]
