"""A run at the command line: what is checked first, Ctrl-C, progress, and the last line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli.batch.plan import NOT_RUN
from corral.cli.text.failures import Failed, say

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.batch.conduct import Options, Summary, Watcher
    from corral.batch.plan import Plan
    from corral.batch.records import Ended
    from corral.batch.rundir import RunDir


def with_files(act: Callable[[], int]) -> int:
    """What can be wrong with directories, files and targets, as failures in one line."""
    import msgspec

    from corral.batch.checking import PlanError
    from corral.batch.conduct import NoTargetsError
    from corral.batch.joblog import JoblogError
    from corral.batch.rundir import RunDirError
    from corral.batch.targets import TooManyTargetsError

    try:
        return act()
    except (RunDirError, NoTargetsError, JoblogError, TooManyTargetsError, PlanError, msgspec.DecodeError) as why:
        raise Failed(str(why), status=NOT_RUN) from why
    except BrokenPipeError:
        raise
    except OSError as why:
        raise Failed(f"{why.filename or 'the run directory'}: {why.strerror}", status=NOT_RUN) from why


async def check_targets(client: "AsyncClient", plan: "Plan", name: str) -> None:
    """Every step selects some guest now. Raises PlanError with all that do not."""
    from corral.batch.conduct import NoTargetsError, guests_of

    guests = await client.guests()
    wrong = []
    for step in plan.steps:
        try:
            guests_of(step, guests)
        except NoTargetsError as why:
            wrong.append(str(why))
    for line in wrong:
        say(f"{name}: {line}")
    if wrong:
        raise Failed(f"{name}: nothing was run", status=NOT_RUN, hint="`corral guests` shows which guests there are")


async def print_dry(client: "AsyncClient", plan: "Plan", items: dict[str, list[str]]) -> int:
    """What would be sent, as JSON Lines. Returns 0."""
    from corral.batch.conduct import guests_of
    from corral.batch.filling import FillError
    from corral.batch.targets import filled_args, request_id, targets_of
    from corral.cli.text.output import json_line

    guests = await client.guests()
    for step in plan.steps:
        for target in targets_of(step, items.get(step.name), guests_of(step, guests)):
            record: dict[str, Any] = {
                "step": step.name,
                "number": target.number,
                "guest": target.guest or None,
                "item": target.item,
                "op": step.op,
            }
            try:
                request = request_id("dry-run", target.key, 1)
                record["args"] = filled_args(step, target, target.guest, target.labels, request) if target.guest else step.args
            except FillError as why:
                record["error"] = str(why)
            click.echo(json_line(record))
    sys.stdout.flush()
    return 0


async def conduct(client: "AsyncClient", directory: "RunDir", plan: "Plan", chosen: "Options", *, as_json: bool, lock: str | None) -> int:
    """Runs, or goes on with, what is in the directory; the exit status."""
    import contextlib

    from corral.batch.progress import LiveProgress, Quiet
    from corral.batch.rundir import locked
    from corral.cli.text.output import console

    with contextlib.ExitStack() as stack:
        if lock:
            stack.enter_context(locked(_lock_path(lock), f"the lock {lock} is held by another run"))
        stack.enter_context(directory.held())
        on_end = _print_end if as_json else None
        watcher = stack.enter_context(LiveProgress(console(stderr=True), on_end)) if sys.stderr.isatty() else Quiet(say, on_end)
        summary = await _interruptible(client, directory, plan, chosen, watcher)
    _say_summary(directory, summary)
    return NOT_RUN if summary is None else summary.status


def _print_end(record: "Ended") -> None:
    from corral.batch.standing import row_of
    from corral.cli.text.output import json_line

    click.echo(json_line(row_of(record)))
    sys.stdout.flush()


async def _interruptible(
    client: "AsyncClient", directory: "RunDir", plan: "Plan", chosen: "Options", watcher: "Watcher"
) -> "Summary | None":
    """None when it was stopped at once. SIGINT or SIGTERM: once drains, twice stops."""
    import asyncio
    import signal

    from corral.batch.conduct import Conductor

    conductor = Conductor(client, directory, plan, chosen, watcher)
    running = asyncio.create_task(conductor.run())
    interrupts = 0

    def interrupt() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            say("no more targets are begun; what is under way is awaited (once more: stop now)")
            conductor.drain()
        else:
            running.cancel()

    loop = asyncio.get_running_loop()
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, interrupt)
    try:
        return await running
    except asyncio.CancelledError:
        if interrupts < 2:
            raise
        return None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _say_summary(directory: "RunDir", summary: "Summary | None") -> None:
    from corral.batch.progress import tally_text

    again = f"corral batch resume {directory.path}"
    if summary is None:
        say(f"{directory.path}: stopped; what is under way goes on in its guests", hint=again)
    elif summary.interrupted:
        say(f"{directory.path}: {tally_text(summary.outcomes)}; not at its end", hint=again)
    else:
        unknown = summary.outcomes.get("unknown", 0)
        hint = (
            f"{again} --retry-unknown asks again about the {unknown} unknown"
            if unknown
            else f"{again} --resume-failed"
            if summary.status
            else ""
        )
        say(f"{directory.path}: {tally_text(summary.outcomes)}", hint=hint)


def _lock_path(name: str) -> Path:
    from corral.cli.up.run_dir import default_run_dir

    return Path(name) if "/" in name else default_run_dir() / "locks" / f"{name}.lock"
