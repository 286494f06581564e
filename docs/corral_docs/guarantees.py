"""The page of guarantees, from guarantees.toml and the tests marked `@pytest.mark.guarantee(n)`."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from corral_docs.places import DOCS, ROOT

HEAD = """# Guarantees

Corral makes {count} promises. Each has tests that try to break it; the tests carry the number of their promise
(`@pytest.mark.guarantee(n)`), and this page is generated from them.

Chaos tests kill and freeze every part (client, broker, worker, shim, zygote), cut, stall and half-close their links, fill their disks and
move their clocks, while an independent witness counts what ran. `make chaos MINUTES=20 SEED=1` does that, and then repeats at full size
what `make test` runs scaled down. `make simulate` plays all parts in one process from a seed (no failure in the last 10,000 seeds). `make
bite` breaks the code on purpose and shows how many seeds it takes to notice. `.ci/run` fails if a test is skipped without a stated
reason.
"""


class Guarded(NamedTuple):
    """A test that tries to break a guarantee."""

    path: Path
    test: str

    @property
    def sentence(self) -> str:
        """Return the test's name as a sentence."""
        return self.test.removeprefix("test_").replace("_", " ")


def promises() -> list[dict[str, Any]]:
    """Return the rows of guarantees.toml: number, promise, again, and measured where there is a figure."""
    found: list[dict[str, Any]] = tomllib.loads((DOCS / "guarantees.toml").read_text())["guarantee"]
    return found


def marked_tests(tests: Path = ROOT / "tests") -> dict[int, list[Guarded]]:
    """Return the marked tests of each guarantee, read from their source without importing it."""
    found: dict[int, list[Guarded]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        text = path.read_text()
        if "mark.guarantee(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in _numbers(node):
                    found.setdefault(number, []).append(Guarded(path.relative_to(tests.parent), node.name))
    return found


def _numbers(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.guarantee":
            for argument in decorator.args:
                yield ast.literal_eval(argument)


def problems() -> list[str]:
    """Return what is wrong with the promises: numbers out of order, no test, no command that measures it, a mark without a promise."""
    rows, tests = promises(), marked_tests()
    numbers = [row["number"] for row in rows]
    wrong = [] if numbers == list(range(1, len(numbers) + 1)) else [f"guarantees.toml: the numbers are {numbers}"]
    wrong += [f"guarantee {row['number']}: no test is marked with it" for row in rows if row["number"] not in tests]
    wrong += [f"guarantee {row['number']}: `again` names no command" for row in rows if not str(row.get("again", "")).startswith("make ")]
    wrong += [f"{test.path}::{test.test}: no guarantee {n}" for n, marked in tests.items() if n not in numbers for test in marked]
    return wrong


def page() -> str:
    """Return the text of guarantees.md."""
    rows, tests = promises(), marked_tests()
    return HEAD.format(count=len(rows)) + "".join(_section(row, tests.get(row["number"], [])) for row in rows)


def _section(row: dict[str, Any], tests: list[Guarded]) -> str:
    title, _, rest = row["promise"].partition(". ")
    lines = [f"\n## {row['number']}. {title.removesuffix('.')}\n"]
    if rest:
        lines += [f"\n{rest}\n"]
    lines += ["\nTests that try to break it:\n\n"]
    lines += [f"- [{test.sentence}](../{test.path})\n" for test in tests]
    measured = f"Last measured: {row['measured']}. Measure" if "measured" in row else "Measure"
    return "".join([*lines, f"\n{measured} it again with `{row['again']}`.\n"])
