"""corral events."""

import sys
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet.away import Away
from corral.cli.fleet.selecting import select
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.event_text import Wanted, line_for_people, record_of
from corral.cli.text.failures import FAILED, say

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.core.items import Item
    from corral.selectors import Selector
    from corral_schemas.queries import GuestInfo


def _complete_kinds(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from corral_schemas.events import EVENT_KINDS

    return [kind for kind in EVENT_KINDS if kind.startswith(incomplete)]


@command(
    "events",
    examples=[
        ("Everything from now on", "corral events"),
        ("Exits in one guest, for a script", "corral events --json --guest g1 --kind exit | jq -c '[.container, .data.exit]'"),
        ("In guests chosen by label, those that come later too", "corral events --select role=web"),
        ("What happened in the last hour", "corral events --since 1h --no-follow"),
        ("When and why was vm-7 away last night?", "corral events --since 12h --no-follow -g vm-7 -k guest_up -k guest_down"),
        ("From where a script stopped", 'corral events --json --after "$(tail -1 seen.jsonl | jq -r .cursor)" >> seen.jsonl'),
    ],
    statuses=(
        ("0", "done (--no-follow)"),
        ("1", "failed"),
        ("2", "wrong usage"),
        ("130", "interrupted"),
        ("255", "no broker answered within 5 s"),
    ),
)
@click.option("-k", "--kind", "kinds", multiple=True, metavar="KIND", shell_complete=_complete_kinds, help="Only this kind. Repeatable.")
@options.several_guests()
@select
@click.option("-c", "--container", "containers", multiple=True, metavar="NAME", help="Only containers of this name. Repeatable.")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="K=V", help="kind=, guest= or container=, as docker spells it. Repeatable."
)
@click.option(
    "--since",
    "since_ns",
    type=options.TIME,
    default=None,
    metavar="TIME|DURATION",
    help="Begin at a time, or a duration ago such as 10m.",
)
@click.option("--after", default=None, metavar="CURSOR", help="Begin right behind an event: the cursor that was printed with it.")
@click.option("--no-follow", is_flag=True, help="End at what there is now; without --since or --after begin with the oldest.")
@options.formats
@options.timeout
@options.broker
def events(
    kinds: Sequence[str],
    guest_names: Sequence[str],
    select: "Selector | None",
    containers: Sequence[str],
    filters: Sequence[str],
    since_ns: int | None,
    after: str | None,
    no_follow: bool,
    form: str | None,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Follow what happens in all guests: containers created, started, exited, deleted, guests up and down.

    Each event comes once and in its guest's order; a line of kind `gap` (or `resync`: take a fresh list) reports missing ones. In
    JSON an event has guest, epoch, seq, prev, time_ns, kind, container, process, instance, process_instance, data and cursor.
    """
    from corral.cli.shell.session import with_client

    if after and since_ns is not None:
        raise click.UsageError("--after and --since are two ways to say where to begin: give one")
    if select and guest_names:
        raise click.UsageError("--select and --guest are two ways to say where: give one")
    wanted = Wanted.read(kinds, guest_names, containers, filters, since_ns or 0)

    async def body(client: "AsyncClient") -> int:
        from corral import Cursor
        from corral.cli.text.output import chosen_format, line_of
        from corral.cli.text.replayed import replayed
        from corral_schemas.cursor import cursor_from_text
        from corral_schemas.events import BROKER_KINDS

        beginning = cursor_from_text(after) if after else Cursor() if since_ns is not None or no_follow else None
        source: AsyncIterator[Item]
        status = 0
        of_brokers = wanted.admits_any_of(BROKER_KINDS)
        if beginning is not None and of_brokers:
            of_brokers = await _say_what_is_kept(client)
        if no_follow:
            asked = await _chosen(client, wanted, select)
            names, status = _readable(asked, wanted, select)
            source = replayed(client, names, beginning or Cursor(), of_brokers=of_brokers)
            if select:
                source = _of_guests(source, {info.guest for info in asked})
        else:
            source = _followed(client, wanted, select, beginning)
        chosen = chosen_format(form)
        async for item in source:
            if wanted.admits(item):
                click.echo(line_for_people(item) if chosen == "table" else line_of(record_of(item), chosen))
                sys.stdout.flush()
        return status

    return with_client(broker, body, timeout_s=timeout_s)


async def _chosen(client: "AsyncClient", wanted: Wanted, select: "Selector | None") -> "list[GuestInfo]":
    """The guests meant, up or down."""
    from corral.fleet_map import meant

    known = await client.guests()
    return meant(select, known) if select else [info for info in known if not wanted.guests or info.guest in wanted.guests]


def _readable(chosen: "Sequence[GuestInfo]", wanted: Wanted, select: "Selector | None") -> tuple[list[str], int]:
    """The guests whose journals are to be read and can be, and the status: that of one asked for by name that is down is said."""
    from corral_schemas.events import BROKER_KINDS

    if wanted.kinds and wanted.kinds <= BROKER_KINDS:
        return [], 0
    unknown = sorted(wanted.guests - {info.guest for info in chosen})
    away = Away(wanted.guests, select)
    left_out = away.left_out(info.guest for info in chosen if not info.up)
    away.say()
    failed = [info for info in chosen if not info.up and info.guest not in left_out]
    for info in failed:
        say(f"guest {info.guest} is down, and its journal cannot be read: {info.reason}")
    return [*unknown, *(info.guest for info in chosen if info.up)], FAILED if failed else 0


async def _of_guests(source: "AsyncIterator[Item]", guests: Collection[str]) -> "AsyncIterator[Item]":
    async for item in source:
        if item.guest in guests:
            yield item


async def _say_what_is_kept(client: "AsyncClient") -> bool:
    """Whether the broker has any history; what is less than a whole one is said."""
    from corral import CorralError

    try:
        if not await client.keeps_history():
            say(
                "this broker keeps guests' coming and going since its own start alone",
                hint="corral broker --state-dir DIR keeps it for good",
            )
    except CorralError as why:
        say(str(why))
        return False
    return True


async def _followed(client: "AsyncClient", wanted: Wanted, select: "Selector | None", beginning: Any) -> "AsyncIterator[Item]":
    stream = client.events(
        kinds=wanted.kinds or None,
        guests=wanted.guests or None,
        select=select,
        after=beginning,
        broker_events=True,
        beacons="beacon" in wanted.kinds,
    )
    async with stream:
        async for item in stream:
            yield item
