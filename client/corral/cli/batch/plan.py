"""From the words of `corral batch run` to a plan and its items, and every mistake said."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli.text.failures import Failed, say
from corral.plain_text import count_text

if TYPE_CHECKING:
    from corral.batch.checking import PlanError
    from corral.batch.conduct import Options
    from corral.batch.plan import Plan

NOT_RUN = 255
"""Status of `corral batch` for anything that is not a count of targets."""


def plan_given(words: Sequence[str], how: dict[str, Any]) -> tuple[str, bytes, str, Path]:
    """Name, text, suffix, and the directory that files in it are relative to. Raises click.UsageError, Failed."""
    # click drops the first `--`; what stood before it is a plan only where CMD was not asked for.
    adhoc = bool(how["rootfs"] or how["container"])
    program = list(words[1:]) if words and words[0] == "--" else list(words)
    if not adhoc:
        if len(program) != 1:
            raise click.UsageError(
                "name a plan; or say where CMD is to run, with --rootfs DIR or --exec CONTAINER, and then -- CMD [ARG...]"
            )
        return plan_read(Path(program[0]))
    if how["rootfs"] and how["container"]:
        raise click.UsageError("--rootfs makes a container for each target, --exec uses an existing one: give one of them")
    if not program:
        raise click.UsageError("say what to run after --")
    return "run", _adhoc(program, how), ".json", Path()


def _adhoc(program: Sequence[str], how: dict[str, Any]) -> bytes:
    from corral.batch.adhoc import adhoc_plan
    from corral.batch.filling import placeholders
    from corral.cli.fleet.container_options import mount

    items = how["on"] == "any" or any("{}" in placeholders(word) for word in program)
    if items and sys.stdin.isatty():
        raise click.UsageError("items come from stdin, one a line: seq 10 | corral batch run …")
    step = {"select": how["select"], "on": how["on"], "retries": how["retries"]}
    if how["window"]:
        step["window"] = how["window"]
    if how["target_timeout"] is not None:
        step["timeout"] = how["target_timeout"]
    mounts = [{"source": made.source, "destination": made.destination, "readonly": made.readonly} for made in map(mount, how["volumes"])]
    return adhoc_plan(program, rootfs=how["rootfs"], container=how["container"], step=step, items=items, mounts=mounts)


def plan_read(path: Path) -> tuple[str, bytes, str, Path]:
    """A plan from its file, as plan_given. Raises Failed."""
    try:
        return str(path), path.read_bytes(), ".jsonl" if path.suffix == ".jsonl" else ".yaml", path.parent
    except OSError as why:
        raise Failed(f"{path}: {why.strerror}", status=NOT_RUN, hint="a command without a plan needs --rootfs or --exec") from why


def checked(text: bytes, suffix: str, beside: Path, *, stdin: bool = True) -> "tuple[Plan, dict[str, list[str]]]":
    """The plan and its items; without `stdin` those of stdin are not read. Raises PlanError."""
    from corral.batch.checking import PlanError, read_plan
    from corral.batch.gather import gather_items
    from corral.batch.source import Problem

    try:
        plan = read_plan(text.decode(), json_lines=suffix == ".jsonl")
    except UnicodeDecodeError as why:
        raise PlanError([Problem(text[: why.start].count(b"\n") + 1, "", "not UTF-8")]) from why
    return plan, gather_items(plan, beside, sys.stdin.buffer.read if stdin else lambda: b"?\n")


def mistakes(name: str, why: "PlanError") -> Failed:
    """All but the last are said here; the last is the failure."""
    lines = [f"{name}:{problem.line}: {problem}" if problem.line else f"{name}: {problem}" for problem in why.problems]
    for line in lines:
        say(line)
    return Failed(f"{name}: {count_text(len(lines), 'mistake')}; nothing was run", status=NOT_RUN)


def run_options(how: dict[str, Any], reopen: frozenset[str] = frozenset()) -> "Options":
    """How to run. Raises click.UsageError."""
    from corral.batch.conduct import Options
    from corral.batch.halting import parse_halt

    try:
        halt = parse_halt(how["halt"]) if how["halt"] else None
    except ValueError as why:
        raise click.UsageError(f"--halt: {why}") from why
    return Options(halt=halt, patience_s=how["patience"], joblog_tsv=how["joblog_tsv"], reopen=reopen)
