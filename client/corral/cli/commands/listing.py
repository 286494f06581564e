"""corral ps, processes, inspect."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet.acting import Whom, act_on
from corral.cli.fleet.away import Away
from corral.cli.fleet.selecting import choice, guests_asked, select
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.container_text import STATUS_STYLES, command_text
from corral.cli.text.failures import FAILED, say
from corral.cli.text.progress import waiting
from corral.cli.text.targets import find_container

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice
    from corral.cli.text.output import Column, Record
    from corral.cli.text.targets import Target
    from corral.selectors import Selector


@command(
    "ps",
    examples=[
        ("What runs, everywhere", "corral ps"),
        ("Also what has stopped, in one guest", "corral ps -a --guest g1"),
        ("In some guests", "corral ps --select 'role=web,zone!=b'"),
        ("Names only", "corral ps -q | xargs corral stop"),
        ("For a script", "corral ps -a --json | jq -r 'select(.status == \"stopped\") | .path'"),
        ("Your own columns", "corral ps --format '{path}\\t{status}\\t{pid}'"),
    ],
)
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that have not started or have stopped.")
@click.option("-q", "--quiet", is_flag=True, help="Print GUEST/NAME only.")
@options.several_guests()
@select
@options.formats
@options.timeout
@options.broker
def ps(
    everything: bool,
    quiet: bool,
    guest_names: Sequence[str],
    select: "Selector | None",
    form: str | None,
    timeout_s: float,
    broker: str | None,
) -> int:
    """List containers over all guests, newest first.

    Guests that are down are named on stderr. One that is connected and does not answer, or is down and was asked for by name, makes the
    status 1; the others are listed all the same.
    """
    from corral.cli.shell.session import with_client
    from corral.cli.text.output import print_records

    async def body(client: "AsyncClient") -> int:
        from corral.cli.text.output import as_record

        async with waiting("asking the guests for their containers"):
            fleet = await client.list(await guests_asked(client, guest_names, select))
        shown = [s for s in fleet.containers if everything or s.status in ("running", "paused", "creating")]
        shown.sort(key=lambda s: s.instance, reverse=True)
        records = [{"path": f"{state.guest}/{state.id}", **as_record(state)} for state in shown]
        print_records(records, _container_columns(), "{path}" if quiet else form)
        away = Away(guest_names, select)
        silent = {name: why for name, why in sorted(fleet.silent.items()) if not away.takes(name, why)}
        for name, why in silent.items():
            say(f"guest {name} did not answer: {why}")
        away.say()
        return FAILED if silent else 0

    return with_client(broker, body, timeout_s=timeout_s)


def _container_columns() -> "list[Column]":
    from corral.cli.text.output import Column
    from corral.units import ago_text

    return [
        Column("CONTAINER", lambda r: r["path"], "bold"),
        Column("STATUS", status_text, lambda r: STATUS_STYLES.get(r["status"], "" if _ended_well(r) else "red")),
        Column("PID", lambda r: str(r["pid"] or "-")),
        Column("CREATED", lambda r: ago_text(r["created"])),
        Column("EXECS", lambda r: str(sum(p["exit"] is None for p in r["processes"][1:]) or "-")),
        Column("COMMAND", lambda r: command_text(r["processes"][0]["args"]) if r["processes"] else "", wide=True),
    ]


def _init_exit(record: "Record") -> Any:
    return next((p["exit"] for p in record["processes"] if p["process"] == "init"), None)


def _ended_well(record: "Record") -> bool:
    end = _init_exit(record)
    return bool(end) and end["type"] == "exited" and end["code"] == 0


def status_text(record: "Record") -> str:
    """Its status, or once stopped how it ended."""
    import msgspec

    from corral_schemas.exits import Exit, describe

    end = _init_exit(record)
    return describe(msgspec.convert(end, Exit)) if record["status"] == "stopped" and end else str(record["status"])


@command(
    "processes",
    examples=[
        ("What runs in it, as its runtime sees it", "corral processes g1/web"),
        ("With zombies and ended execs", "corral processes -a web"),
        ("Of the containers of that name, in many guests", "corral processes --select role=web web"),
    ],
)
@options.guest
@choice()
@click.option("-a", "--all", "everything", is_flag=True, help="Also zombies, and processes started by Corral that have ended.")
@options.formats
@options.timeout
@options.broker
@options.container_argument
def processes(
    container: str, guest: str, choice: "Choice | None", everything: bool, form: str | None, timeout_s: float, broker: str | None
) -> int:
    """List all processes in a container, with their pids in the guest.

    With --select those of the container NAME of every guest selected (NAME may be a pattern such as 'web-*'), in one list.
    """
    from corral.cli.text.output import print_records

    found: dict[str, list[Record]] = {}  # GUEST/NAME → its processes

    async def act(client: "AsyncClient", target: "Target") -> None:
        from corral.cli.text.output import as_record

        one = await find_container(client, target)
        path = f"{one.guest}/{one.name}"
        found[path] = [{"path": path, **as_record(process)} for process in await one.ps(all=everything)]

    status = act_on(Whom([container], guest, choice, broker, timeout_s), "processes", act, reads=True)
    if choice or status == 0:
        print_records([record for path in sorted(found) for record in found[path]], _process_columns(of_many=choice is not None), form)
    return status


def _process_columns(*, of_many: bool) -> "list[Column]":
    from corral.cli.text.output import Column

    columns = [
        Column("PID", lambda r: str(r["pid"] or "-"), "bold"),
        Column("PROCESS", lambda r: r["process"] or "-", "cyan"),
        Column("STATE", lambda r: "zombie" if r["is_zombie"] else "ended" if not r["pid"] else "alive"),
        Column("COMMAND", lambda r: command_text(r["command"]), wide=True),
    ]
    return [Column("CONTAINER", lambda r: r["path"], "bold"), *columns] if of_many else columns


@command(
    "inspect",
    examples=[
        ("Everything about it", "corral inspect g1/web"),
        ("One field", "corral inspect --format '{status}' g1/web"),
        ("Its state in each guest", "corral inspect --select all --format '{path} {status}' web"),
        ("How an exec ended", "corral inspect --json g1/web/backup | jq .exit"),
    ],
)
@options.guest
@choice()
@options.formats
@options.timeout
@options.broker
@options.containers_argument
def inspect(containers: Sequence[str], guest: str, choice: "Choice | None", form: str | None, timeout_s: float, broker: str | None) -> int:
    """Show the state of containers (or of the execs named by GUEST/NAME/EXEC) in full, as JSON: indented on a terminal, else JSON Lines."""

    async def act(client: "AsyncClient", target: "Target") -> str:
        return _shown(await _record_of(client, target), form)

    return act_on(Whom(containers, guest, choice, broker, timeout_s), "inspect", act, processes=True, reads=True)


async def _record_of(client: "AsyncClient", target: "Target") -> "Record":
    from corral.cli.text.output import as_record
    from corral_schemas.errors import error

    container = await find_container(client, target)
    state = await container.state()
    if not target.process:
        return {"path": f"{container.guest}/{state.id}", **as_record(state), "guest": container.guest}
    info = next((process for process in state.processes if process.process == target.process), None)
    if info is None:
        raise error("process_not_found", f"{container.guest}/{state.id} has no process {target.process}", nearest=_nearest(target, state))
    return {"path": f"{container.guest}/{state.id}/{info.process}", "guest": container.guest, "container": state.id, **as_record(info)}


def _nearest(target: "Target", state: Any) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(target.process, [process.process for process in state.processes])


def _shown(record: "Record", form: str | None) -> str:
    import json

    from corral.cli.text.output import line_of

    if form in (None, "table") and (form or sys.stdout.isatty()):
        return json.dumps(record, indent=2, ensure_ascii=False)
    return line_of(record, form or "json")
