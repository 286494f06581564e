"""Print what stands out in the house: large classes, files that need many others, full folders, long functions.

`make house`, or `python tests/house/house.py [FOLDER…]`. It is a mirror, not a gate: the exit status is always 0.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("schemas", "broker", "worker", "client", "deploy/vm")
PROJECT = ("corral", "corral_schemas", "corral_broker", "corral_worker", "corral_vm")

ATTRIBUTES_MAX = 12
IMPORTS_MAX = 12
FILES_MAX = 20
FUNCTION_LINES_MAX = 70

ROOTS = ("__init__.py", "__main__.py", "command.py", "service.py", "core.py", "main.py", "shim.py", "zygote.py")
"""Composition roots put the parts together, so they import many. So does each file of the command line's `commands`."""


class Finding(NamedTuple):
    """One place that stands out."""

    size: int
    place: str


def python_files(folder: Path) -> list[Path]:
    """Return the Python files below a folder, in order; none of an environment or a cache."""
    return sorted(path for path in folder.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def attributes(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each class with behaviour, and how many attributes its objects have. A class without a method of its own is data."""
    for kind in ast.walk(tree):
        if not isinstance(kind, ast.ClassDef):
            continue
        methods = [node for node in kind.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not any(not method.name.startswith("__") for method in methods) or _is_protocol(kind):
            continue
        fields = {node.target.id for node in kind.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
        for method in methods:
            fields |= {
                node.attr
                for node in ast.walk(method)
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
                if node.value.id == "self"
            }
        yield kind.name, len(fields)


def _is_protocol(kind: ast.ClassDef) -> bool:
    return any(ast.unparse(base).rpartition(".")[2].startswith("Protocol") for base in kind.bases)


def project_imports(tree: ast.Module) -> set[str]:
    """Return the modules of this project that a file names in its imports, those inside functions and for types included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.partition(".")[0] in PROJECT}


def function_lines(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each function and how many lines it has, its decorators and docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            yield node.name, (node.end_lineno or 0) - code[0].lineno + 1 if code else 0


def is_composition_root(path: Path) -> bool:
    """Whether a file is there to put others together."""
    return path.name in ROOTS or path.parent.name == "commands"


def findings(folders: list[Path], root: Path = ROOT) -> dict[str, list[Finding]]:
    """Return what stands out below the folders, the most first, under the four headings."""
    large, needy, full, long = [], [], [], []
    siblings: dict[Path, int] = {}
    for path in (path for folder in folders for path in python_files(folder)):
        name = str(path.relative_to(root))
        tree = ast.parse(path.read_bytes(), name)
        siblings[path.parent] = siblings.get(path.parent, 0) + (path.name != "__init__.py")
        large += [Finding(count, f"{name} {kind}") for kind, count in attributes(tree) if count > ATTRIBUTES_MAX]
        long += [Finding(count, f"{name} {function}") for function, count in function_lines(tree) if count > FUNCTION_LINES_MAX]
        if (count := len(project_imports(tree))) > IMPORTS_MAX and not is_composition_root(path):
            needy.append(Finding(count, name))
    full = [Finding(count, f"{folder.relative_to(root)}/") for folder, count in siblings.items() if count > FILES_MAX]
    return {
        f"classes with more than {ATTRIBUTES_MAX} attributes": sorted(large, reverse=True),
        f"files with more than {IMPORTS_MAX} imports of this project (composition roots left out)": sorted(needy, reverse=True),
        f"folders with more than {FILES_MAX} files": sorted(full, reverse=True),
        f"functions with more than {FUNCTION_LINES_MAX} lines": sorted(long, reverse=True),
    }


def report(found: dict[str, list[Finding]]) -> str:
    """Return the findings as text, a heading with its count and a line each."""
    parts = []
    for heading, places in found.items():
        parts.append("\n".join([f"{heading}: {len(places) or 'none'}", *(f"{count:6}  {place}" for count, place in places)]))
    return "\n\n".join(parts)


def main(arguments: list[str]) -> None:
    """Print the report of the folders named, or of the whole product."""
    folders = [Path(name).resolve() for name in arguments] or [ROOT / name for name in FOLDERS]
    print(report(findings(folders)))


if __name__ == "__main__":
    main(sys.argv[1:])
