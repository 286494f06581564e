"""corral batch: run, check, status, resume."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from corral.cli.batch.plan import NOT_RUN, checked, mistakes, plan_given, plan_read, run_options
from corral.cli.batch.run import check_targets, conduct, print_dry, with_files
from corral.cli.shell import options
from corral.cli.shell.command import CommandGroup, CorralCommand
from corral.cli.text.failures import Failed
from corral.plain_text import count_text

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.text.output import Column

F = TypeVar("F", bound=Callable[..., Any])
STATUSES = (
    ("0", "every target ended ok"),
    ("1-100", "so many targets did not"),
    ("101", "more than 100 did not"),
    ("255", "anything else: a plan with mistakes, wrong usage, no broker; or interrupted, to be resumed"),
)


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


class BatchGroup(CommandGroup):
    """`corral batch`; its commands are BatchCommands."""

    command_class = BatchCommand
    status = NOT_RUN


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    "batch",
    cls=BatchGroup,
    context_settings=_SETTINGS,
    statuses=STATUSES,
    examples=[
        ("Each number once, in the least loaded guest", "seq 1000 | corral batch run --on any --rootfs /srv/bb -- sh -c 'echo {}'"),
        ("A plan, checked and then run", "corral batch check plan.yaml && corral batch run plan.yaml"),
        ("Continue a killed run", "corral batch resume last"),
    ],
)
def batch() -> None:
    """Run plans on many guests: each target has exactly one end, nothing runs twice, and `resume` continues a killed run.

    A plan is YAML (or JSON Lines) with steps in order: {version: 1, steps: [{name, op, args, select, items, on, window, timeout,
    retries, on_failure}]}. A target is a guest, or a guest and an item; `{}` in the arguments is the item, `{guest}` the guest, `{label.x}`
    one of its labels. Each run has a directory with its plan, its targets, a log of all that was done, and the results.
    """


def _duration(name: str, help: str, default: str | None = None) -> Callable[[F], F]:
    return click.option(name, type=options.DURATION, default=default, metavar="DURATION", show_default=default is not None, help=help)


def _how(function: F) -> F:
    """Options of run and resume."""
    shared: list[Callable[[F], F]] = [
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
@click.option("--retries", type=click.IntRange(0, 1000), default=0, metavar="N", help="Without a plan: how often a failure is tried again.")
@_BASE
@click.option("--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="The run's directory, instead of BASE/PLAN-TIME-ID.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, as JSON Lines, and send nothing.")
@_how
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="PLAN | -- CMD [ARG...]")
def run(words: Sequence[str], timeout_s: float, broker: str | None, base: Path, dry_run: bool, **how: Any) -> int:
    """Run a plan; or, without one, a command for every target.

    Without a plan items are read from stdin, one a line, where CMD has {} or with --on any; where no word has {}, the item is the
    last word. Ctrl-C waits for targets under way and begins no more; a second one stops at once. `corral batch resume` continues
    after either.
    """
    from corral.batch.checking import PlanError
    from corral.batch.rundir import make_run_dir
    from corral.cli.shell.session import with_client

    name, text, suffix, beside = plan_given(words, how)
    try:
        plan, items = checked(text, suffix, beside)
    except PlanError as why:
        raise mistakes(name, why) from why
    chosen = run_options(how)

    async def body(client: "AsyncClient") -> int:
        await check_targets(client, plan, name)
        if dry_run:
            return await print_dry(client, plan, items)
        made = make_run_dir(base, Path(name).stem, text, suffix, items, exact=how["run_dir"])
        return await conduct(client, made, plan, chosen, as_json=how["as_json"], lock=how["lock"])

    return with_files(lambda: with_client(broker, body, timeout_s=timeout_s))


@batch.command(
    "check", statuses=STATUSES, context_settings=_SETTINGS, examples=[("All mistakes, with their lines", "corral batch check plan.yaml")]
)
@click.argument("plan", metavar="PLAN", type=click.Path(path_type=Path))
def check(plan: Path) -> int:
    """Read a plan and report all its mistakes, without asking a guest."""
    from corral.batch.checking import PlanError

    name, text, suffix, beside = plan_read(plan)
    try:
        found, items = checked(text, suffix, beside, stdin=False)
    except PlanError as why:
        raise mistakes(name, why) from why
    click.echo(f"{name}: {count_text(len(found.steps), 'step')}, {count_text(sum(map(len, items.values())), 'item')}, no mistakes")
    return 0


@batch.command(
    "status",
    statuses=(("0", "shown"), ("255", "no such run")),
    context_settings=_SETTINGS,
    examples=[
        ("State of the last run", "corral batch status"),
        ("What did not end ok, for a script", "corral batch status --targets --json | jq -c 'select(.outcome != \"ok\")'"),
    ],
)
@_BASE
@click.option("--targets", is_flag=True, help="How each target ended, instead of the steps; targets without an end are `open`.")
@options.formats
@click.argument("directory", metavar="[DIR|last]", default="last")
def status(directory: str, base: Path, targets: bool, form: str | None) -> int:
    """Show the state of a run from its directory, whether it is running or not."""
    from corral.batch.standing import step_rows, target_rows
    from corral.cli.text.output import print_records

    def show() -> int:
        from corral.batch.rundir import find_run_dir

        found = find_run_dir(directory, base)
        if targets:
            print_records(target_rows(found), _target_columns(), form)
        else:
            print_records(step_rows(found), _step_columns(), form)
        return 0

    return with_files(show)


@batch.command(
    "resume",
    statuses=STATUSES,
    context_settings=_SETTINGS,
    examples=[
        ("Continue the last run", "corral batch resume"),
        ("Those that failed once more", "corral batch resume --resume-failed corral-runs/rollout-20260131T120000-1a2b3c"),
    ],
)
@_BASE
@click.option("--resume-failed", is_flag=True, help="Run again targets that ended failed, timeout, unreachable or skipped.")
@click.option(
    "--retry-unknown",
    is_flag=True,
    help="Ask again for unknown outcomes; run the command again if its outcome stays unknown: it may run a second time.",
)
@_how
@click.argument("directory", metavar="[DIR|last]", default="last")
def resume(directory: str, base: Path, timeout_s: float, broker: str | None, resume_failed: bool, retry_unknown: bool, **how: Any) -> int:
    """Continue a run that was killed or interrupted.

    It keeps its targets. It first asks for the outcome of commands without an end, under the request ids in the log, so that nothing
    runs twice. A target that has its end keeps it, unless an option here says otherwise.
    """
    from corral.cli.shell.session import with_client

    reopen = frozenset({"failed", "timeout", "unreachable", "skipped"} if resume_failed else ()) | ({"unknown"} if retry_unknown else set())
    chosen = run_options(how, reopen)

    def go_on() -> int:
        from corral.batch.rundir import find_run_dir

        found = find_run_dir(directory, base)
        plan = found.plan()

        async def body(client: "AsyncClient") -> int:
            return await conduct(client, found, plan, chosen, as_json=how["as_json"], lock=how["lock"])

        return with_client(broker, body, timeout_s=timeout_s)

    return with_files(go_on)


def _step_columns() -> "list[Column]":
    from corral.batch.records import OUTCOMES
    from corral.cli.text.output import Column

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
    from corral.cli.text.output import Column

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
