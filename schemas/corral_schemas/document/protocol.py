"""The generated parts of PROTOCOL.md: they stand between `<!-- generated: NAME -->` and `<!-- end -->`."""

import ast
import inspect
import json
import re
from collections.abc import Callable

from corral_schemas import PROTOCOL_VERSION, limits
from corral_schemas.document.catalogue import messages, parts
from corral_schemas.document.structs import GOLDEN, hex_lines, struct_text, table
from corral_schemas.errors import TABLE
from corral_schemas.events import BROKER_KINDS, EVENT_KINDS
from corral_schemas.ops import OPS


def ops_table() -> str:
    def yes(flag: bool) -> str:
        return "yes" if flag else ""

    rows = []
    for name, op in OPS.items():
        asked = "broker or guest" if name == "info" else "broker" if op.broker else "guest"
        marks = [yes(op.mutating), yes(op.ordered), yes(op.long_poll), "bulk" if op.bulk else "main"]
        rows.append(
            [f"[`{name}`](#{name})", *(f"[{k.__name__}](#{k.__name__.lower()})" for k in (op.args, op.reply)), asked, op.role, *marks]
        )
    return table("Op | Arguments | Reply | Asked of | Least role | Recorded | Ordered | Long poll | Session", rows)


def errors_table() -> str:
    rows = [
        [
            f"`{code}`",
            row.kind.__name__.removesuffix("Error"),
            f"0x{row.hresult:08X}",
            str(row.hresult - (1 << 32)),
            row.errno_name,
            row.when,
        ]
        for code, row in TABLE.items()
    ]
    return table("Code | Class | HRESULT | On the wire | errno-like | When", rows)


def events_table() -> str:
    rows = []
    for name, kind in EVENT_KINDS.items():
        source = "broker" if name in BROKER_KINDS else "guest's journal"
        rows.append([f"`{name}`", f"[{kind.__name__}](#{kind.__name__.lower()})", source, inspect.cleandoc(kind.__doc__ or "")])
    return table("Kind | Payload | From | Meaning", rows)


def limits_table() -> str:
    """Every name in limits.py with its value and the docstring below it."""
    body = ast.parse(inspect.getsource(limits)).body[1:]
    rows = []
    for value, words in zip(body[::2], body[1::2], strict=True):
        assert isinstance(value, ast.Assign) and isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant)
        assert isinstance(value.targets[0], ast.Name)
        name = value.targets[0].id
        rows.append([f"`{name}`", f"{getattr(limits, name)}", str(words.value.value)])
    return table("Name | Value | Meaning", rows)


def exchange_text() -> str:
    """Whole messages, frame by frame, from the golden exchanges."""
    said = []
    for name, sample in json.loads((GOLDEN / "exchanges" / "good.json").read_text()).items():
        lines = "\n\n".join(hex_lines(frame) or "(empty)" for frame in sample["frames"])
        said.append(f"**{name}** — {sample['about']}\n\n```\n{lines}\n```")
    return "\n\n".join(said)


def generated_parts() -> dict[str, Callable[[], str]]:
    """Name of a part of PROTOCOL.md → what writes it."""
    tables = {"ops": ops_table, "errors": errors_table, "events": events_table, "limits": limits_table, "exchanges": exchange_text}
    structs = {name: (lambda kind=kind: struct_text(kind)) for name, kind in {**messages(), **parts()}.items()}
    return {"version": lambda: f"Protocol version: **{PROTOCOL_VERSION}**", **tables, **structs}


_PART = re.compile(r"(?<=<!-- generated: )(\S+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def protocol_text(current: str) -> str:
    """PROTOCOL.md with its generated parts made anew. Raises KeyError for a part that nothing writes."""
    write = generated_parts()
    return _PART.sub(lambda part: f"{part[1]}{part[2]}\n{write[part[1]]()}\n\n", current)
