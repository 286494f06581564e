"""The part of shim-protocol.md on messages: every one that is defined in the worker's shim/messages.py, with its fields."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from corral_docs.places import ROOT
from corral_docs.text import escaped

SOURCE = ROOT / "worker" / "corral_worker" / "shim" / "messages.py"
TABLES = {
    "TO_SHIM": "Worker to shim",
    "REQUESTS": "Worker to shim: `request`, by `step`",
    "FROM_SHIM": "Shim to worker",
    "NOTICES": "Shim to worker: notices",
    "TO_ZYGOTE": "Worker to zygote",
    "FROM_ZYGOTE": "Zygote to worker",
}


class Definition(NamedTuple):
    """A message, or a part of one, as its source has it."""

    purpose: str
    fields: dict[str, str]


def tables() -> str:
    """Return a section for each direction, and one for the parts of messages."""
    module = ast.parse(SOURCE.read_text())
    known = dict(_definitions(module))
    listed = {name: dict(_entries(module, name)) for name in TABLES}
    listed["FROM_SHIM"] = {kind: name for kind, name in listed["FROM_SHIM"].items() if kind not in listed["NOTICES"]}
    sections = [f"### {title}\n\n" + _table(listed[name], known) for name, title in TABLES.items()]
    messages = {name for entries in listed.values() for name in entries.values()}
    parts = {name: name for name in known if name not in messages and not name.startswith("_")}
    return "\n".join([*sections, "### Parts of messages\n\n" + _table(parts, known)])


def _table(entries: dict[str, str], known: dict[str, Definition]) -> str:
    rows = [f"| `{kind}` | {escaped(known[name].purpose)} | {_fields(known[name].fields)} |\n" for kind, name in entries.items()]
    return "| | What it is | Fields |\n|---|---|---|\n" + "".join(rows)


def _fields(fields: dict[str, str]) -> str:
    shown = {name: kind for name, kind in fields.items() if name != "t" and not (name == "step" and kind.startswith("Literal"))}
    return "<br>".join(f"`{name}`: {escaped(_kind(kind))}" for name, kind in shown.items()) or "none"


def _kind(annotation: str) -> str:
    optional = re.fullmatch(r"NotRequired\[(.*)\]", annotation)
    text = f"{optional[1]}, may be absent" if optional else annotation
    return text.replace("None", "null").replace("Any", "any")


def _definitions(module: ast.Module) -> Iterator[tuple[str, Definition]]:
    bases: dict[str, dict[str, str]] = {}
    documented = {
        node.targets[0].value.id: str(node.value.value)  # type: ignore[attr-defined]
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute) and isinstance(node.value, ast.Constant)
    }
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            inherited = {name: kind for base in node.bases for name, kind in bases.get(ast.unparse(base), {}).items()}
            own = {ast.unparse(one.target): ast.unparse(one.annotation) for one in node.body if isinstance(one, ast.AnnAssign)}
            bases[node.name] = {**inherited, **own}
            yield node.name, Definition(" ".join((ast.get_docstring(node) or "").split()), bases[node.name])
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            members = node.value.args[1]
            assert isinstance(members, ast.Dict)
            fields = {ast.literal_eval(key): ast.unparse(value) for key, value in zip(members.keys, members.values, strict=True) if key}
            yield node.targets[0].id, Definition(documented[node.targets[0].id], fields)


def _entries(module: ast.Module, table: str) -> Iterator[tuple[str, str]]:
    """(kind or step, name of its definition) of one of the tables at the end."""
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if key is not None:
                    yield ast.literal_eval(key), ast.unparse(value)
