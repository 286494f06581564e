"""corral bundle list, inspect, rm, gc: what is kept in guests."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.bundle.guests import ask_each, say_failure, selection, status_of, where
from corral.cli.fleet.away import Away
from corral.cli.shell import options
from corral.cli.shell.command import command

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.batch.plan import Window
    from corral.cli.text.output import Column, Record
    from corral.fleet_map import Mapped
    from corral.guest import Guest
    from corral.selectors import Selector
    from corral_schemas.bundles import InspectBundleReply, ListBundlesReply, RemovedBundlesReply

STATUSES = (("0", "done"), ("1", "failed, in one or more of the guests"), ("2", "wrong usage"), ("255", "no broker answered within 5 s"))
DIGEST_SHOWN = 19
"""`sha256:` and 12 digits: enough to name a bundle by."""


@command("bundle list", statuses=STATUSES, examples=[("In all guests", "corral bundle list"), ("In one", "corral bundle list -g g1")])
@where(everywhere=True)
@options.formats
@options.timeout
@options.broker
def list_(
    guest_names: Sequence[str],
    select: "Selector | None",
    window: "Window | None",
    form: str | None,
    timeout_s: float,
    broker: str | None,
) -> int:
    """List bundles, by default of all guests, and interrupted pushes."""
    from corral.cli.shell.session import with_client

    async def body(client: "AsyncClient") -> int:
        from corral.cli.text.output import print_records

        async def ask(guest: "Guest") -> "ListBundlesReply":
            return await guest.bundles.list()

        rows: list[Record] = []
        failed = 0
        away = Away(guest_names, select)
        async for outcome in ask_each(client, await selection(client, guest_names, select, everywhere=True), ask, window):
            if outcome.value is None:
                if outcome.error is not None and away.takes(outcome.guest, outcome.error):
                    continue
                failed += 1
                say_failure(outcome)
            else:
                rows += _rows(outcome.guest, outcome.value)
        away.say()
        print_records(sorted(rows, key=lambda row: (row["guest"], row["state"], row["names"])), _columns(), form)
        return status_of(failed)

    return with_client(broker, body, timeout_s=timeout_s)


def _rows(guest: str, reply: "ListBundlesReply") -> "list[Record]":
    from corral.cli.text.output import as_record

    coming = {"guest": guest, "state": "incoming", "names": [], "used_by": []}
    return [
        *({"guest": guest, "state": "whole", **as_record(one)} for one in reply.bundles),
        *({**coming, **as_record(one), "created_ns": one.written_ns} for one in reply.incoming),
    ]


def _columns() -> "list[Column]":
    import time

    from corral.cli.text.output import Column
    from corral.units import duration_text, size_text

    return [
        Column("GUEST", lambda r: r["guest"], "bold"),
        Column("BUNDLE", lambda r: ",".join(r["names"]) or ("-" if r["state"] == "whole" else "(incoming)")),
        Column("DIGEST", lambda r: r["digest"][:DIGEST_SHOWN]),
        Column("SIZE", lambda r: size_text(r["bytes"])),
        Column("CREATED", lambda r: duration_text(max(0.0, time.time() - r["created_ns"] / 1e9)) + " ago"),
        Column("USED BY", lambda r: ",".join(r["used_by"]) or "-", wide=True),
    ]


@command(
    "bundle inspect",
    statuses=STATUSES,
    examples=[
        ("What it runs", "corral bundle inspect busybox | jq .image"),
        ("Its files", "corral bundle inspect --files -g g1 busybox | jq -r '.entries[].path'"),
    ],
)
@click.argument("ref", metavar="NAME[:TAG]|DIGEST")
@click.option("--files", is_flag=True, help="Also what is in it, file by file.")
@where(everywhere=True)
@options.timeout
@options.broker
def inspect(
    ref: str,
    files: bool,
    guest_names: Sequence[str],
    select: "Selector | None",
    window: "Window | None",
    timeout_s: float,
    broker: str | None,
) -> int:
    """Show a bundle in full, as JSON: by default in every guest that has it."""
    from corral.cli.shell.session import with_client

    async def body(client: "AsyncClient") -> int:
        from corral.cli.text.output import as_record, json_line

        async def ask(guest: "Guest") -> "InspectBundleReply":
            return await _whole(guest, ref) if files else await guest.bundles.inspect(ref)

        everywhere = not guest_names and select is None
        missing: list[Mapped[InspectBundleReply]] = []
        found = failed = 0
        async for outcome in ask_each(client, await selection(client, guest_names, select, everywhere=True), ask, window):
            if outcome.value is not None:
                found += 1
                click.echo(json_line({"guest": outcome.guest, **as_record(outcome.value)}))
            elif everywhere and outcome.error is not None and outcome.error.code == "bundle_not_found":
                missing.append(outcome)
            else:
                failed += 1
                say_failure(outcome)
        if missing and not found:
            say_failure(missing[0])
        return status_of(failed or not found)

    return with_client(broker, body, timeout_s=timeout_s)


async def _whole(guest: "Guest", ref: str) -> "InspectBundleReply":
    import msgspec

    from corral_schemas.limits import BUNDLE_ENTRIES_PER_REPLY_MAX

    reply = await guest.bundles.inspect(ref, entries_max=BUNDLE_ENTRIES_PER_REPLY_MAX)
    entries = list(reply.entries)
    while len(entries) < reply.bundle.entries:
        more = await guest.bundles.inspect(reply.bundle.digest, entries_from=len(entries), entries_max=BUNDLE_ENTRIES_PER_REPLY_MAX)
        if not more.entries:
            break
        entries += more.entries
    return msgspec.structs.replace(reply, entries=entries)


@command(
    "bundle rm",
    statuses=STATUSES,
    examples=[
        ("Everywhere", "corral bundle rm busybox --select all"),
        ("The rest of an interrupted push", "corral bundle rm sha256:…"),
    ],
)
@click.argument("ref", metavar="NAME[:TAG]|DIGEST")
@where()
@options.json_only
@options.timeout
@options.broker
def rm(
    ref: str,
    guest_names: Sequence[str],
    select: "Selector | None",
    window: "Window | None",
    as_json: bool,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Remove a name of a bundle; its last name, or its digest, removes the bundle.

    One that a container uses is refused: delete the container first.
    """

    async def act(guest: "Guest") -> "RemovedBundlesReply":
        return await guest.bundles.remove(ref)

    return _removing(act, guest_names, select, window, as_json=as_json, timeout_s=timeout_s, broker=broker)


@command(
    "bundle gc",
    statuses=STATUSES,
    examples=[
        ("Bundles without a name that no container uses", "corral bundle gc --select all"),
        ("Everything unused", "corral bundle gc --all --select all"),
    ],
)
@click.option("--all", "named", is_flag=True, help="Also bundles with a name, if no container uses them.")
@click.option(
    "--idle",
    "idle_s",
    type=options.DURATION,
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="Give up pushes that received nothing for so long.",
)
@where()
@options.json_only
@options.timeout
@options.broker
def gc(
    named: bool,
    idle_s: float,
    guest_names: Sequence[str],
    select: "Selector | None",
    window: "Window | None",
    as_json: bool,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Remove bundles that have no name and that no container uses, and the rest of interrupted pushes."""

    async def act(guest: "Guest") -> "RemovedBundlesReply":
        return await guest.bundles.collect(named=named, idle_s=idle_s)

    return _removing(act, guest_names, select, window, as_json=as_json, timeout_s=timeout_s, broker=broker)


def _removing(
    act: "Callable[[Guest], Awaitable[RemovedBundlesReply]]",
    guest_names: Sequence[str],
    select: "Selector | None",
    window: "Window | None",
    *,
    as_json: bool,
    timeout_s: float,
    broker: str | None,
) -> int:
    from corral.cli.shell.session import with_client

    async def body(client: "AsyncClient") -> int:
        failed = 0
        async for outcome in ask_each(client, await selection(client, guest_names, select), act, window):
            if outcome.value is None:
                failed += 1
                say_failure(outcome)
            else:
                _print_removed(outcome.guest, outcome.value, as_json=as_json)
        return status_of(failed)

    return with_client(broker, body, timeout_s=timeout_s)


def _print_removed(guest: str, reply: "RemovedBundlesReply", *, as_json: bool) -> None:
    from corral.cli.text.output import as_record, json_line
    from corral.units import size_text

    if as_json:
        click.echo(json_line({"guest": guest, **as_record(reply)}))
        return
    went = [*(f"untagged {name}" for name in reply.untagged), *(f"removed {digest[:DIGEST_SHOWN]}" for digest in reply.removed)]
    freed = f", {size_text(reply.freed_bytes)} freed" if reply.removed else ""
    click.echo(f"{guest}  {', '.join(went) or 'nothing to remove'}{freed}")
