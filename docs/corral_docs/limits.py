"""The table of limits in limits.md, from corral_schemas/limits.py."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import corral_schemas.limits
from corral_docs.text import escaped


def table() -> str:
    """Return a row for each limit: what it bounds, and how much."""
    rows = [f"| {escaped(text)} | {_amount(name, getattr(corral_schemas.limits, name))} | `{name}` |\n" for name, text in _documented()]
    return "".join(["| What | Limit | Name |\n|---|---|---|\n", *rows])


def _documented() -> list[tuple[str, str]]:
    """Return each name with the docstring below it."""
    body = ast.parse(Path(corral_schemas.limits.__file__).read_text()).body
    found = []
    for assignment, below in pairwise(body):
        if isinstance(assignment, ast.Assign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found.append((ast.unparse(assignment.targets[0]), re.sub(r"\s+", " ", str(below.value.value)).strip().removesuffix(".")))
    return found


def _amount(name: str, value: float) -> str:
    words = name.split("_")
    if "BYTES" in words:
        for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
            if value >= 1 << power and not int(value) % (1 << power):
                return f"{int(value) >> power:,} {unit}"
        return f"{value:,} bytes"
    if "S" in words:
        for length, unit in ((86_400, "days"), (3_600, "hours"), (60, "min")):
            if value > length and not value % length:
                return f"{value / length:g} {unit}"
        return f"{value:g} s" if value != 86_400 else "24 hours"
    return f"{value:,}" + (" characters" if "CHARS" in words else "")
