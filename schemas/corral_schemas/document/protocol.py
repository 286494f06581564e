"""The generated parts of PROTOCOL.md and of reference/*.md: they stand between `<!-- generated: NAME -->` and `<!-- end -->`."""

import ast
import inspect
import re
from collections.abc import Callable

from corral_schemas import PROTOCOL_VERSION, frames, limits
from corral_schemas.document import exchanges
from corral_schemas.document.catalogue import SESSION
from corral_schemas.document.pages import inner_parts, resolve
from corral_schemas.document.structs import example_text, fields_text, struct_text, table
from corral_schemas.errors import TABLE, WireError
from corral_schemas.events import BROKER_KINDS, EVENT_KINDS, EventHeader, StdioHeader
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.ops import OPS, Op

_ALONE: tuple[type, ...] = (
    frames.CommandHeader,
    frames.ReplyHeader,
    frames.ReplyBody,
    EventHeader,
    StdioHeader,
    Exit,
    StreamEnd,
    WireError,
    *SESSION.values(),
)
"""Structs with a part each. All others stand with the op, the event kind or the parts they belong to."""


BOTH_SIDES = frozenset({"info", "replay"})
"""Ops that brokers and guests answer, each about itself."""


def asked_of(name: str, op: Op) -> str:
    return "broker or guest" if name in BOTH_SIDES else "broker" if op.broker else "guest"


def ops_table() -> str:
    def yes(flag: bool) -> str:
        return "yes" if flag else ""

    rows = []
    for name, op in OPS.items():
        marks = [yes(op.mutating), yes(op.ordered), yes(op.long_poll), "bulk" if op.bulk else "main"]
        rows.append(
            [f"[`{name}`](@{name})", *(f"[{k.__name__}](@{k.__name__})" for k in (op.args, op.reply)), asked_of(name, op), op.role, *marks]
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
        rows.append([f"`{name}`", f"[{kind.__name__}](@{kind.__name__})", source, inspect.cleandoc(kind.__doc__ or "")])
    return table("Kind | Payload | From | Meaning", rows)


def payloads_text() -> str:
    """The payload of every event kind."""
    return "\n\n".join(f"### {kind.__name__}\n\nOf `{name}`. {struct_text(kind)}" for name, kind in EVENT_KINDS.items())


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


def parts_text() -> str:
    """The Structs that occur only inside commands and replies."""
    return "\n\n".join(f"### {name}\n\n{fields_text(kind)}" for name, kind in inner_parts().items())


def op_messages(name: str) -> str:
    """What kind of op it is, its request and its reply; a Struct stands in full with the first op that has it."""
    op = OPS[name]
    traits = [
        f"asked of: {asked_of(name, op)}",
        f"least role: {op.role}",
        *(word for word, so in (("recorded", op.mutating), ("ordered", op.ordered), ("long poll", op.long_poll)) if so),
        f"{'bulk' if op.bulk else 'main'} session",
    ]
    earlier = {kind for other in list(OPS)[: list(OPS).index(name)] for kind in (OPS[other].args, OPS[other].reply)}
    said = [", ".join(traits).capitalize() + "."]
    for what, kind in (("Request", op.args), ("Reply", op.reply)):
        said.append(f"**{what}**: [{kind.__name__}](@{kind.__name__})" + ("." if kind in earlier else ""))
        if kind not in earlier:
            said.append(f"#### {kind.__name__}\n\n{fields_text(kind)}")
    return "\n\n".join(said)


def op_example(name: str) -> str:
    """Request and reply in their JSON form."""
    op = OPS[name]
    lines = []
    for what, kind in (("Request", op.args), ("Reply", op.reply)):
        lines.append(example_text(kind.__name__, what))
    return "**Example**\n\n" + "\n\n".join(lines)


def generated_parts() -> dict[str, Callable[[], str]]:
    """Name of a generated part → what writes it."""
    tables = {
        "version": lambda: f"Protocol version: **{PROTOCOL_VERSION}**",
        "ops": ops_table,
        "errors": errors_table,
        "events": events_table,
        "payloads": payloads_text,
        "limits": limits_table,
        "parts": parts_text,
        "dialogue": exchanges.dialogue_text,
        "exchanges": exchanges.list_text,
        "mark": exchanges.mark_text,
    }
    alone = {kind.__name__: (lambda kind=kind: struct_text(kind)) for kind in _ALONE}
    of_ops = {f"{name}.messages": (lambda name=name: op_messages(name)) for name in OPS}
    examples = {f"{name}.example": (lambda name=name: op_example(name)) for name in OPS}
    return {**tables, **alone, **of_ops, **examples}


_PART = re.compile(r"(?<=<!-- generated: )(\S+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def contents(page: str) -> str:
    """The sections of a page, and the ops described in each."""
    lines = []
    for section in re.split(r"^## ", _PART.sub("", page), flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        ops = [name for name in re.findall(r"^### (\w+)$", section, re.MULTILINE) if name in OPS]
        if title != "Contents":
            link = f"[{title}](#{title.lower().replace(' ', '-')})"
            lines.append(f"- {link}" + (": " if ops else "") + ", ".join(f"[`{name}`](#{name})" for name in ops))
    return "\n".join(lines)


def page_text(page: str, current: str) -> str:
    """One page with its generated parts made anew. Raises KeyError for a part that nothing writes."""
    write: dict[str, Callable[[], str]] = {**generated_parts(), "contents": lambda: contents(current)}
    return _PART.sub(lambda part: f"{part[1]}{part[2]}\n{resolve(write[part[1]](), page)}\n\n", current)
