"""corral guests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet.selecting import select
from corral.cli.shell import options
from corral.cli.shell.command import PLAIN_STATUSES, CommandGroup, command, is_for_another
from corral.cli.text.failures import FAILED, say
from corral.cli.text.progress import waiting

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.text.output import Column
    from corral.selectors import Selector


@click.group(
    "guests",
    cls=CommandGroup,
    lists=True,
    statuses=PLAIN_STATUSES,
    examples=[
        ("Who is there", "corral guests"),
        ("Those with a label", "corral guests --select role=web"),
        ("Those that are down, for a script", "corral guests --json | jq -r 'select(.up | not) | .guest'"),
        ("One that left for good", "corral guests forget vm-7"),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@select
@options.formats
@options.timeout
@options.broker
def guests(select: "Selector | None", form: str | None, timeout_s: float, broker: str | None) -> int:
    """List the guests that the broker knows of, up or down, with their labels and load.

    STATE says why a guest is down, and what is wrong with one that is up: a clock that is off, an older version of Corral, another
    worker that claims its name. One that left for good is listed until it is forgotten.
    """
    from corral.cli.shell.session import with_client

    if is_for_another():
        return 0

    async def body(client: "AsyncClient") -> int:
        from corral.cli.text.output import as_record, print_records
        from corral.fleet_map import meant

        async with waiting("asking the broker"):
            known = sorted(await client.guests(), key=lambda guest: guest.guest)
        if select:
            known = meant(select, known)
        print_records([as_record(guest) for guest in known], _columns(), form)
        return 0

    return with_client(broker, body, timeout_s=timeout_s)


@command(
    "guests forget",
    examples=[
        ("One that left for good", "corral guests forget vm-7"),
        ("All that are down", "corral guests --json | jq -r 'select(.up | not) | .guest' | xargs corral guests forget"),
    ],
)
@options.timeout
@options.broker
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=options.complete_guests)
def forget(names: Sequence[str], timeout_s: float, broker: str | None) -> int:
    """Remove guests that left for good from the broker's list, and print their names.

    If one of them is connected, none is removed: end its worker first. A guest's key stays accepted (corral keys revoke NAME), and
    one that comes back is listed again.
    """
    from corral.cli.shell.session import with_client

    async def body(client: "AsyncClient") -> int:
        async with waiting("asking the broker"):
            forgotten = await client.forget_guests(names)
            unknown = [name for name in dict.fromkeys(names) if name not in forgotten]
            known = [info.guest for info in await client.guests()] if unknown else []
        for name in forgotten:
            click.echo(name)
        for name in unknown:
            from difflib import get_close_matches

            nearest = get_close_matches(name, known, 1)
            say(f"no guest {name} is known", hint=f"did you mean {nearest[0]}?" if nearest else "")
        return FAILED if unknown else 0

    return with_client(broker, body, timeout_s=timeout_s)


guests.add_command(forget, "forget")


def _columns() -> "list[Column]":
    from corral.cli.text.output import Column
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
