"""corral info."""

import sys
from typing import TYPE_CHECKING, Any

import click

from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.progress import waiting

if TYPE_CHECKING:
    from corral import AsyncClient


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
    from corral.cli.shell.session import with_client

    async def body(client: "AsyncClient") -> int:
        from corral.cli.text.output import as_record, chosen_format, line_of

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
