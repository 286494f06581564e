"""Items from where a plan says they are, read once when the run is made."""

from collections.abc import Callable
from pathlib import Path

from corral.batch.checking import PlanError
from corral.batch.plan import ItemsFrom, Plan, Step
from corral.batch.source import Problem
from corral.batch.targets import TooManyTargetsError, item_text, items_of_lines, items_of_range


def gather_items(plan: Plan, beside: Path, read_stdin: Callable[[], bytes]) -> dict[str, list[str]]:
    """Step name → its items. `beside`: the directory that file names are relative to. Raises PlanError with all that is wrong."""
    found: dict[str, list[str]] = {}
    problems: list[Problem] = []
    taken = ""
    for step in plan.steps:
        if step.items is None:
            continue
        if isinstance(step.items, ItemsFrom) and step.items.stdin and taken:
            problems.append(Problem(0, f"step {step.name}", f"stdin gives its items to step {taken} already"))
            continue
        try:
            found[step.name] = _items(step, beside, read_stdin)
        except (OSError, ValueError, TooManyTargetsError) as why:
            problems.append(Problem(0, f"step {step.name}, items", _said(why)))
            continue
        if isinstance(step.items, ItemsFrom) and step.items.stdin:
            taken = step.name
        if not found[step.name]:
            problems.append(Problem(0, f"step {step.name}, items", "there are none: the step would have no targets"))
    if problems:
        raise PlanError(problems)
    return found


def _items(step: Step, beside: Path, read_stdin: Callable[[], bytes]) -> list[str]:
    if not isinstance(step.items, ItemsFrom):
        return [item_text(item) for item in step.items or ()]
    if step.items.range is not None:
        return items_of_range(step.items.range)
    data = read_stdin() if step.items.stdin else (beside / step.items.file).read_bytes()
    return items_of_lines(data.decode())


def _said(why: Exception) -> str:
    if isinstance(why, UnicodeDecodeError):
        line = why.object[: why.start].count(b"\n") + 1
        return f"line {line} is not UTF-8: arguments are text"
    if isinstance(why, OSError):
        return f"{why.filename}: {why.strerror}"
    return str(why)
