"""The part of architecture.md on rooms: the import contracts of pyproject.toml, from the top down, with what each room is for."""

import ast
import re
import tomllib
from pathlib import Path

from corral_docs.places import ROOT
from corral_docs.text import escaped

SOURCES = ("schemas", "broker", "worker", "client")
EMPTY = {
    "shim": "The process that runs one container; it imports the standard library alone, and is no part of the worker's process.",
    "zygote": "The parent of all shims: imports once, forks, cleans up after a shim that died.",
    "calls": "Calls of the runtime, one at a time, and what is left to clean up after them.",
    "process": "One process of the container: pipes or terminal, input, output, its end, and the notices of these.",
    "spool": "Output on disk: writer, reader, format, limits.",
    "ledger": "Requests and their results, on disk: a repeat is answered from here.",
    "cgroup": "The container's cgroups: find, kill, freeze, count OOM kills, remove.",
    "base": "What every room may use: event loop, sockets, files, system calls. The standard library alone.",
}
"""Rooms of the shim whose `__init__.py` stays empty, because every shim would hold its docstring in memory."""


def lists() -> str:
    """Return a section for each contract of layers inside a part; a room may import only rooms below it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = []
    for contract in contracts:
        for package in contract.get("containers", []):
            rows = [row for layer in contract["layers"] for row in _layer(package, layer)]
            found.append(f"### Rooms of `{package}`\n\nFrom the top down; a room imports only rooms below it.\n\n" + "".join(rows))
    return "\n".join(found)


def _layer(package: str, layer: str) -> list[str]:
    names = [name.strip(" ()") for name in re.split(r"[|:]", layer)]
    return [f"- `{name}`: {escaped(_purpose(package, name))}\n" for name in names]


def _purpose(package: str, name: str) -> str:
    """Return the first sentence of a room's or file's docstring."""
    inside = package.replace(".", "/")
    for source in SOURCES:
        for path in (ROOT / source / inside / name / "__init__.py", ROOT / source / inside / f"{name}.py"):
            if path.exists():
                return _first_sentence(path) or EMPTY.get(name, "")
    return EMPTY.get(name, "")


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip()
