"""corral batch: run, check, status, resume."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli import options
from corral.cli.command import CorralCommand
from corral.cli.failures import Failed, say

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.batch.checking import PlanError
    from corral.batch.conduct import Options, Summary
    from corral.batch.plan import Plan
    from corral.batch.records import Ended
    from corral.batch.rundir import RunDir
    from corral.cli.output import Column

NOT_RUN = 255
STATUSES = (
    ("0", "every target ended ok"),
    ("1-100", "so many targets did not"),
    ("101", "more than 100 did not"),
    ("255", "anything else: a plan with mistakes, wrong usage, no broker; or interrupted, to be resumed"),
)
STDIN_CLOSED_HINT = "items come from stdin, one a line: seq 10 | corral batch run …"


class BatchCommand(CorralCommand):
    """Statuses up to 101 count targets: everything of Corral's own is 255."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Failed as why:
            raise Failed(why.message, status=NOT_RUN, hint=why.hint) from why

    def _usage_failure(self, why: click.UsageError) -> Failed:
        failure = super()._usage_failure(why)
        ours = f"corral {self.name} --help"
        return Failed(failure.message, status=NOT_RUN, hint=f"corral batch {self.name} --help" if failure.hint == ours else failure.hint)


class BatchGroup(CorralCommand, click.Group):
    """`corral batch`; its commands are BatchCommands."""

    command_class = BatchCommand

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        if not ctx.resilient_parsing and args[0] not in self.commands:
            nearest = get_close_matches(args[0], self.commands, 1)
            hint = f"did you mean corral batch {nearest[0]}?" if nearest else f"there are: {', '.join(self.commands)}"
            raise Failed(f"batch has no command {args[0]!r}", status=NOT_RUN, hint=hint)
        return super().resolve_command(ctx, args)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    "batch",
    cls=BatchGroup,
    context_settings=_SETTINGS,
    statuses=STATUSES,
    examples=[
        ("Each number once, wherever there is least to do", "seq 1000 | corral batch run --on any --rootfs /srv/bb -- sh -c 'echo {}'"),
        ("A plan, checked and then run", "corral batch check plan.yaml && corral batch run plan.yaml"),
        ("On from where it was when it was killed", "corral batch resume last"),
    ],
)
def batch() -> None:
    """Carry out plans on many guests: each target ends exactly once, nothing runs twice, and whatever was killed goes on with `resume`.

    A plan is YAML (or JSON Lines) with steps in order: {version: 1, steps: [{name, op, args, select, items, on, window, timeout,
    retries, on_failure}]}. A target is a guest, or a guest and an item; `{}` in the arguments is the item, `{guest}` the guest, `{label.x}`
    one of its labels. Each run has a directory with its plan, its targets, a log of all that was done, and the results.
    """


def _duration(name: str, help: str, default: str | None = None) -> Any:
    return click.option(name, type=options.DURATION, default=default, metavar="DURATION", show_default=default is not None, help=help)


def _how(function: Any) -> Any:
    """Options of run and resume."""
    shared = [
        click.option(
            "--halt", metavar="now|soon,fail=N|N%", help="Once so many of a step have failed: begin no more (soon), or kill too (now)."
        ),
        _duration("--patience", "How long a guest may be silent in the middle of a target before the outcome is `unknown`.", "30s"),
        click.option(
            "--joblog-tsv", type=click.Path(path_type=Path), metavar="FILE", help="Also append a line per target in GNU parallel's columns."
        ),
        click.option("--lock", metavar="NAME", help="Refuse to run while another run holds the lock NAME (a path where it has a /)."),
        click.option("--json", "as_json", is_flag=True, help="Print how each target ended, as JSON Lines."),
        options.timeout,
        options.broker,
    ]
    for option in reversed(shared):
        function = option(function)
    return function


_BASE = click.option(
    "--base",
    type=click.Path(path_type=Path),
    default="corral-runs",
    metavar="DIR",
    show_default=True,
    help="Where directories of runs are.",
)


@batch.command(
    "run",
    statuses=STATUSES,
    context_settings={**_SETTINGS, "allow_interspersed_args": False},
    examples=[
        ("A plan", "corral batch run rollout.yaml"),
        ("One command for each line of stdin", "seq 1000 | corral batch run --on any --window 8 --rootfs /srv/bb -- sh -c 'echo {}'"),
        ("One command in a container that each web guest has", "corral batch run --select role=web --exec app -- reload"),
        ("What would be done", "corral batch run --dry-run plan.yaml | jq -c '[.guest, .args]'"),
    ],
)
@click.option(
    "--select", default="all", metavar="EXPR", show_default=True, help="Without a plan: which guests. all, g1,g2, web-*, role=web."
)
@click.option(
    "--on", type=click.Choice(["each", "any"]), default="each", show_default=True, help="Without a plan: every guest, or the least loaded."
)
@click.option("--rootfs", default="", metavar="DIR", help="Without a plan: run CMD in a new container on this directory of the guest.")
@click.option("--exec", "container", default="", metavar="CONTAINER", help="Without a plan: run CMD in this container.")
@click.option(
    "-v", "--volume", "volumes", multiple=True, metavar="SRC:DST[:ro]", help="With --rootfs: mount a directory of the guest. Repeatable."
)
@click.option("--window", default=None, metavar="N|N%", help="Without a plan: most targets under way at a time. Default: 16.")
@_duration("--target-timeout", "Without a plan: time for each attempt at a target.")
@click.option(
    "--retries", type=click.IntRange(0, 1000), default=0, metavar="N", help="Without a plan: how often what failed is tried again."
)
@_BASE
@click.option("--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="The run's directory, in place of BASE/PLAN-TIME-ID.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, as JSON Lines, and send nothing.")
@_how
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="PLAN | -- CMD [ARG...]")
def run(words: Sequence[str], timeout_s: float, broker: str | None, base: Path, dry_run: bool, **how: Any) -> int:
    """Run a plan; or, without one, a command for every target.

    Without a plan items are read from stdin, one a line, where CMD has {} or with --on any; where no word has {}, the item is the last
    word. Ctrl-C lets what is under way end and begins no more; a second one stops at once. Either way `corral batch resume` goes on.
    """
    from corral.batch.checking import PlanError
    from corral.batch.rundir import make_run_dir
    from corral.cli.session import with_client

    name, text, suffix, beside = _plan_given(words, how)
    try:
        plan, items = _checked(text, suffix, beside)
    except PlanError as why:
        raise _mistakes(name, why) from why
    chosen = _options(how)

    async def body(client: "AsyncClient") -> int:
        await _check_targets(client, plan, name)
        if dry_run:
            return await _print_dry(client, plan, items)
        made = make_run_dir(base, Path(name).stem, text, suffix, items, exact=how["run_dir"])
        return await _conduct(client, made, plan, chosen, as_json=how["as_json"], lock=how["lock"])

    return _with_files(lambda: with_client(broker, body, timeout_s=timeout_s))


@batch.command(
    "check", statuses=STATUSES, context_settings=_SETTINGS, examples=[("All mistakes, with their lines", "corral batch check plan.yaml")]
)
@click.argument("plan", metavar="PLAN", type=click.Path(path_type=Path))
def check(plan: Path) -> int:
    """Read a plan and say everything that is wrong with it. No guest is asked."""
    from corral.batch.checking import PlanError

    name, text, suffix, beside = _plan_read(plan)
    try:
        found, items = _checked(text, suffix, beside, stdin=False)
    except PlanError as why:
        raise _mistakes(name, why) from why
    click.echo(f"{name}: {len(found.steps)} steps, {sum(map(len, items.values()))} items, no mistakes")
    return 0


@batch.command(
    "status",
    statuses=(("0", "shown"), ("255", "no such run")),
    context_settings=_SETTINGS,
    examples=[
        ("How the last run stands", "corral batch status"),
        ("What did not end ok, for a script", "corral batch status --targets --json | jq -c 'select(.outcome != \"ok\")'"),
    ],
)
@_BASE
@click.option("--targets", is_flag=True, help="How each target ended, in place of the steps; those without an end are `open`.")
@options.formats
@click.argument("directory", metavar="[DIR|last]", default="last")
def status(directory: str, base: Path, targets: bool, form: str | None) -> int:
    """Show how a run stands, at work or not, from its directory alone."""
    from corral.batch.standing import step_rows, target_rows
    from corral.cli.output import print_records

    def show() -> int:
        from corral.batch.rundir import find_run_dir

        found = find_run_dir(directory, base)
        if targets:
            print_records(target_rows(found), _target_columns(), form)
        else:
            print_records(step_rows(found), _step_columns(), form)
        return 0

    return _with_files(show)


@batch.command(
    "resume",
    statuses=STATUSES,
    context_settings=_SETTINGS,
    examples=[
        ("On from where the last run was", "corral batch resume"),
        ("Those that failed once more", "corral batch resume --resume-failed corral-runs/rollout-20260131T120000-1a2b3c"),
    ],
)
@_BASE
@click.option("--resume-failed", is_flag=True, help="Do again what ended failed, timeout, unreachable or skipped.")
@click.option(
    "--retry-unknown",
    is_flag=True,
    help="Ask again about what ended unknown, and do it again where nobody knows: it may be the second time.",
)
@_how
@click.argument("directory", metavar="[DIR|last]", default="last")
def resume(directory: str, base: Path, timeout_s: float, broker: str | None, resume_failed: bool, retry_unknown: bool, **how: Any) -> int:
    """Go on with a run that was killed or interrupted.

    Its targets stay those it had. What was sent and has no end yet is asked about first, under the request id in the log, so that
    nothing runs twice; a target that has its end keeps it, unless it is asked for here.
    """
    from corral.cli.session import with_client

    reopen = frozenset({"failed", "timeout", "unreachable", "skipped"} if resume_failed else ()) | ({"unknown"} if retry_unknown else set())
    chosen = _options(how, reopen)

    def go_on() -> int:
        from corral.batch.rundir import find_run_dir

        found = find_run_dir(directory, base)
        plan = found.plan()

        async def body(client: "AsyncClient") -> int:
            return await _conduct(client, found, plan, chosen, as_json=how["as_json"], lock=how["lock"])

        return with_client(broker, body, timeout_s=timeout_s)

    return _with_files(go_on)


# -- from words to a plan --------------------------------------------------------------------------------------------------------------


def _plan_given(words: Sequence[str], how: dict[str, Any]) -> tuple[str, bytes, str, Path]:
    """Name, text, suffix, and the directory that files in it are relative to."""
    # click drops the first `--`; what stood before it is a plan only where CMD was not asked for.
    adhoc = bool(how["rootfs"] or how["container"])
    program = list(words[1:]) if words and words[0] == "--" else list(words)
    if not adhoc:
        if len(program) != 1:
            raise click.UsageError(
                "name a plan; or say where CMD is to run, with --rootfs DIR or --exec CONTAINER, and then -- CMD [ARG...]"
            )
        return _plan_read(Path(program[0]))
    if how["rootfs"] and how["container"]:
        raise click.UsageError("--rootfs makes a container of its own for each target, --exec goes into one: give one of them")
    if not program:
        raise click.UsageError("say what to run after --")
    return "run", _adhoc(program, how), ".json", Path()


def _adhoc(program: Sequence[str], how: dict[str, Any]) -> bytes:
    from corral.batch.adhoc import adhoc_plan
    from corral.batch.filling import placeholders
    from corral.cli.making import mount

    items = how["on"] == "any" or any("{}" in placeholders(word) for word in program)
    if items and sys.stdin.isatty():
        raise click.UsageError(STDIN_CLOSED_HINT)
    step = {"select": how["select"], "on": how["on"], "retries": how["retries"]}
    if how["window"]:
        step["window"] = how["window"]
    if how["target_timeout"] is not None:
        step["timeout"] = how["target_timeout"]
    mounts = [{"source": made.source, "destination": made.destination, "readonly": made.readonly} for made in map(mount, how["volumes"])]
    return adhoc_plan(program, rootfs=how["rootfs"], container=how["container"], step=step, items=items, mounts=mounts)


def _plan_read(path: Path) -> tuple[str, bytes, str, Path]:
    try:
        return str(path), path.read_bytes(), ".jsonl" if path.suffix == ".jsonl" else ".yaml", path.parent
    except OSError as why:
        raise Failed(f"{path}: {why.strerror}", status=NOT_RUN, hint="a command in place of a plan needs --rootfs or --exec") from why


def _checked(text: bytes, suffix: str, beside: Path, *, stdin: bool = True) -> "tuple[Plan, dict[str, list[str]]]":
    from corral.batch.checking import PlanError, read_plan
    from corral.batch.gather import gather_items
    from corral.batch.source import Problem

    try:
        plan = read_plan(text.decode(), json_lines=suffix == ".jsonl")
    except UnicodeDecodeError as why:
        raise PlanError([Problem(text[: why.start].count(b"\n") + 1, "", "not UTF-8")]) from why
    return plan, gather_items(plan, beside, sys.stdin.buffer.read if stdin else lambda: b"?\n")


def _mistakes(name: str, why: "PlanError") -> Failed:
    """All but the last are said here; the last is the failure."""
    lines = [f"{name}:{problem.line}: {problem}" if problem.line else f"{name}: {problem}" for problem in why.problems]
    for line in lines:
        say(line)
    count = f"{len(lines)} mistakes" if len(lines) > 1 else "1 mistake"
    return Failed(f"{name}: {count}; nothing was run", status=NOT_RUN)


def _options(how: dict[str, Any], reopen: frozenset[str] = frozenset()) -> "Options":
    from corral.batch.conduct import Options
    from corral.batch.halting import parse_halt

    try:
        halt = parse_halt(how["halt"]) if how["halt"] else None
    except ValueError as why:
        raise click.UsageError(f"--halt: {why}") from why
    return Options(halt=halt, patience_s=how["patience"], joblog_tsv=how["joblog_tsv"], reopen=reopen)


# -- running ---------------------------------------------------------------------------------------------------------------------------


def _with_files(act: Any) -> int:
    """What can be wrong with directories, files and targets, as failures in one line."""
    import msgspec

    from corral.batch.checking import PlanError
    from corral.batch.conduct import NoTargetsError
    from corral.batch.joblog import JoblogError
    from corral.batch.rundir import RunDirError
    from corral.batch.targets import TooManyTargetsError

    try:
        found: int = act()
        return found
    except (RunDirError, NoTargetsError, JoblogError, TooManyTargetsError, PlanError, msgspec.DecodeError) as why:
        raise Failed(str(why), status=NOT_RUN) from why
    except BrokenPipeError:
        raise
    except OSError as why:
        raise Failed(f"{why.filename or 'the run directory'}: {why.strerror}", status=NOT_RUN) from why


async def _check_targets(client: "AsyncClient", plan: "Plan", name: str) -> None:
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


async def _print_dry(client: "AsyncClient", plan: "Plan", items: dict[str, list[str]]) -> int:
    from corral.batch.conduct import guests_of
    from corral.batch.filling import FillError
    from corral.batch.targets import filled_args, request_id, targets_of
    from corral.cli.output import json_line

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


async def _conduct(client: "AsyncClient", directory: "RunDir", plan: "Plan", chosen: "Options", *, as_json: bool, lock: str | None) -> int:
    import contextlib

    from corral.batch.progress import LiveProgress, Quiet
    from corral.batch.rundir import locked
    from corral.cli.output import console

    with contextlib.ExitStack() as stack:
        if lock:
            stack.enter_context(locked(_lock_path(lock), f"the lock {lock} is held by another run"))
        stack.enter_context(directory.held())
        watcher = stack.enter_context(LiveProgress(console(stderr=True))) if sys.stderr.isatty() else Quiet(say)
        if as_json:
            _print_ends(watcher)
        summary = await _interruptible(client, directory, plan, chosen, watcher)
    _say_summary(directory, summary)
    return NOT_RUN if summary is None else summary.status


def _print_ends(watcher: Any) -> None:
    from corral.cli.output import json_line

    show = watcher.ended

    def ended(record: "Ended") -> None:
        click.echo(json_line(_row(record)))
        sys.stdout.flush()
        show(record)

    watcher.ended = ended


def _row(record: "Ended") -> dict[str, Any]:
    from corral.batch.standing import row_of

    return row_of(record)


async def _interruptible(client: "AsyncClient", directory: "RunDir", plan: "Plan", chosen: "Options", watcher: Any) -> "Summary | None":
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
    from corral.cli.place import default_run_dir

    return Path(name) if "/" in name else default_run_dir() / "locks" / f"{name}.lock"


# -- tables ----------------------------------------------------------------------------------------------------------------------------


def _step_columns() -> "list[Column]":
    from corral.batch.records import OUTCOMES
    from corral.cli.output import Column

    def count(name: str) -> "Column":
        return Column(
            name.upper(), lambda r: str(r[name] or "-"), lambda r: "red" if r[name] and name not in ("ok", "open", "skipped") else ""
        )

    return [
        Column("STEP", lambda r: r["step"], "bold"),
        Column("STATE", lambda r: r["state"], lambda r: {"ended": "green", "under way": "yellow"}.get(r["state"], "")),
        Column("TARGETS", lambda r: str(r["targets"] or "-")),
        *(count(name) for name in (*OUTCOMES, "open")),
    ]


def _target_columns() -> "list[Column]":
    from corral.cli.output import Column

    def item(record: dict[str, Any]) -> str:
        return "-" if record["item"] is None else str(record["item"])

    return [
        Column("STEP", lambda r: r["step"], "bold"),
        Column("N", lambda r: str(r["number"])),
        Column("GUEST", lambda r: r["guest"] or "-"),
        Column("ITEM", item, wide=True),
        Column("OUTCOME", lambda r: r["outcome"], lambda r: {"ok": "green", "open": "", "skipped": "yellow"}.get(r["outcome"], "red")),
        Column("STATUS", lambda r: "-" if r["status"] is None else str(r["status"])),
        Column("ATTEMPTS", lambda r: str(r["attempts"])),
        Column("REASON", lambda r: r["reason"] or "-", wide=True),
    ]
