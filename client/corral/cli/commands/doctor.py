"""corral doctor."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.failures import FAILED, NoBroker

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.text.output import Column
    from corral.cli.up.checks import Finding

GUEST_PATIENCE_S = 5.0
CLOCK_SKEW_S = 2.0
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@command(
    "doctor",
    examples=[
        ("All checks", "corral doctor"),
        ("What is wrong, for a script", "corral doctor --json | jq -r 'select(.verdict == \"fail\") | .advice'"),
        ("Before a worker is started with another runtime", "corral doctor --runtime crun --state-dir /srv/corral"),
    ],
    statuses=(("0", "nothing is wrong (warnings do not count)"), ("1", "something is: see WHAT TO DO"), ("2", "wrong usage")),
)
@click.option("--runtime", default="runc", show_default=True, metavar="PATH", help="Runtime that a worker here would use.")
@click.option("--state-dir", type=click.Path(path_type=Path), default=None, metavar="DIR", help="State directory that would be used here.")
@click.option("--run-dir", type=click.Path(path_type=Path), default=None, metavar="DIR", help="Run directory that would be used here.")
@options.formats
@options.broker
def doctor(runtime: str, state_dir: Path | None, run_dir: Path | None, form: str | None, broker: str | None) -> int:
    """Check this machine (runtime, cgroups, permissions, disk, clock, open files) and the way to the broker and to each guest, and
    say what to do about each fault."""
    from corral.cli.text.output import print_records
    from corral.cli.up.checks import machine_findings
    from corral.cli.up.run_dir import default_run_dir, default_state_dir

    findings = list(machine_findings(runtime, state_dir or default_state_dir(), run_dir or default_run_dir()))
    findings += asyncio.run(_all(_fleet_findings(broker)))
    print_records([finding._asdict() for finding in findings], _columns(), form)
    return FAILED if any(finding.verdict == "fail" for finding in findings) else 0


async def _all(findings: "AsyncIterator[Finding]") -> "list[Finding]":
    return [finding async for finding in findings]


async def _fleet_findings(broker: str | None) -> "AsyncIterator[Finding]":
    """The way to the broker, and to each guest it knows of."""
    from corral import CorralError
    from corral.cli.shell.session import opened
    from corral.cli.up.checks import Finding

    try:
        client = await opened(broker, timeout_s=GUEST_PATIENCE_S)
    except (NoBroker, CorralError) as why:
        yield Finding("broker", "fail", why.message, "start one: corral up; or name one: --broker ADDRESS or CORRAL_BROKER")
        return
    try:
        began_s = time.monotonic()
        guests = sorted(await client.guests(), key=lambda guest: guest.guest)
        yield Finding("broker", "ok", f"{client.address}, answered in {_ms(began_s)}")
        if not guests:
            yield Finding("guests", "warn", "none is known to the broker", "start one: corral worker --guest NAME --broker ADDRESS")
        for finding in await asyncio.gather(*(_guest_finding(client, guest.guest) for guest in guests)):
            yield finding
    except CorralError as why:
        yield Finding("broker", "fail", str(why), "look at the broker's log")
    finally:
        await client.close()


async def _guest_finding(client: "AsyncClient", name: str) -> "Finding":
    from corral import CorralError
    from corral.cli.up.checks import Finding

    began_s = time.monotonic()
    try:
        about = (await client.info(name)).about
    except CorralError as why:
        return Finding(f"guest {name}", "fail", str(why), f"look at its worker: is it running, and does it reach {client.address}?")
    took = _ms(began_s)
    time_ns = about.get("time_ns")
    if isinstance(time_ns, int) and abs(time.time() - time_ns / 1e9) > CLOCK_SKEW_S:
        skew_s = time_ns / 1e9 - time.time()
        return Finding(
            f"guest {name}", "warn", f"answered in {took}; its clock is {skew_s:+.1f} s off ours", "timedatectl set-ntp true, in both"
        )
    return Finding(
        f"guest {name}", "ok", f"answered in {took}" + (f", {about['runtime']}" if isinstance(about.get("runtime"), str) else "")
    )


def _ms(began_s: float) -> str:
    return f"{(time.monotonic() - began_s) * 1000:.0f} ms"


def _columns() -> "list[Column]":
    from corral.cli.text.output import Column

    return [
        Column("CHECK", lambda r: r["check"], "bold"),
        Column("RESULT", lambda r: r["verdict"], lambda r: STYLES[r["verdict"]]),
        Column("FOUND", lambda r: r["found"], wraps=True),
        Column("WHAT TO DO", lambda r: r["advice"], wraps=True),
    ]
