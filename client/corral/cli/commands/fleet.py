"""corral guests, corral info."""

import sys
from typing import TYPE_CHECKING, Any

import click

from corral.cli import options
from corral.cli.command import command
from corral.cli.patience import waiting
from corral.cli.selecting import select

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.output import Column
    from corral.selectors import Selector


@command(
    "guests",
    examples=[
        ("Who is there", "corral guests"),
        ("Those with a label", "corral guests --select role=web"),
        ("Those that are down, for a script", "corral guests --json | jq -r 'select(.up | not) | .guest'"),
    ],
)
@select
@options.formats
@options.timeout
@options.broker
def guests(select: "Selector | None", form: str | None, timeout_s: float, broker: str | None) -> int:
    """List the guests that the broker knows of, up or down, with their labels and load.

    STATE says why a guest is down, and what is wrong with one that is up: a clock that is off, an older version of Corral, another
    worker that claims its name.
    """
    from corral.cli.session import with_client

    async def body(client: "AsyncClient") -> int:
        from corral.cli.output import as_record, print_records
        from corral.fleet_map import meant

        async with waiting("asking the broker"):
            known = sorted(await client.guests(), key=lambda guest: guest.guest)
        if select:
            known = meant(select, known)
        print_records([as_record(guest) for guest in known], _columns(), form)
        return 0

    return with_client(broker, body, timeout_s=timeout_s)


def _columns() -> "list[Column]":
    from corral.cli.output import Column
    from corral.units import duration_text

    def labels(record: Any) -> str:
        return ",".join(f"{key}={value}" for key, value in sorted(record["labels"].items())) or "-"

    return [
        Column("GUEST", lambda r: r["guest"], "bold"),
        Column(
            "STATE",
            lambda r: "; ".join(["up" if r["up"] else f"down: {r['reason']}" if r["reason"] else "down", *r["warnings"]]),
            lambda r: "red" if not r["up"] else "yellow" if r["warnings"] else "green",
        ),
        Column("HEARD", lambda r: duration_text(r["heard_ms"] / 1000) + " ago"),
        Column("RUNNING", lambda r: f"{r['load']['running']} of {r['load']['containers']}"),
        Column("BUSY", lambda r: f"{r['load']['runtime_calls']}+{r['load']['queued']}"),
        Column("RUNTIME", lambda r: r["runtime"] or "-"),
        Column("VERSION", lambda r: r["version"] or "-"),
        Column("LABELS", labels, wide=True),
    ]


@command(
    "info",
    examples=[
        ("About the broker", "corral info"),
        ("About a guest's worker", "corral info g1"),
        ("One limit", "corral info --json g1 | jq .limits.STOP_GRACE_S"),
    ],
)
@options.formats
@options.timeout
@options.broker
@click.argument("guest", default="", metavar="[GUEST]", shell_complete=options.complete_guests)
def info(guest: str, form: str | None, timeout_s: float, broker: str | None) -> int:
    """Show what the broker is, or what a guest's worker is: version, place, limits, counters."""
    from corral.cli.session import with_client

    async def body(client: "AsyncClient") -> int:
        from corral.cli.output import as_record, chosen_format, line_of

        async with waiting(f"asking {guest or 'the broker'}"):
            record = {**as_record(await client.info(guest)), "address": client.address}
        if chosen_format(form) == "table":
            _print_tree(record)
        else:
            click.echo(line_of(record, chosen_format(form)))
        sys.stdout.flush()
        return 0

    return with_client(broker, body, timeout_s=timeout_s)


def _print_tree(record: dict[str, Any]) -> None:
    """Field by field; the members of a field that is a map below it, indented."""
    for key, value in record.items():
        if isinstance(value, dict):
            if value:
                click.secho(f"{key}:", bold=True)
            for name, inner in value.items():
                click.echo(f"  {name}: {inner}")
        elif value not in ("", None):
            click.echo(f"{click.style(key, bold=True)}: {value}")
