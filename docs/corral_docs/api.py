"""The page of the Python library's classes, from their source: signatures and docstrings."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from corral_docs.places import ROOT
from corral_docs.text import escaped

CLIENT = ROOT / "client" / "corral"
HEAD = """# Classes of the library

Generated from the docstrings; [Python](python.md) shows programs. `corral.Client` and its handles have the same methods without `await`.
Structs such as `ContainerSpec`, `Exit` and `ContainerState` are messages: [commands](../schemas/reference/commands.md) and
[events](../schemas/reference/events.md) describe their fields. `_s` in a name means seconds, `_ns` nanoseconds, `_max` a bound.
"""

_ARGUMENT = re.compile(r"(^|[.:] )([a-z_]+(?:, [a-z_]+)*): ")
"""What a docstring says of arguments: `timeout_s: seconds …`, at the beginning of a sentence."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Shown(NamedTuple):
    """A class on the page."""

    file: str
    name: str


CLASSES = [
    Shown("async_client.py", "AsyncClient"),
    Shown("guest.py", "Guest"),
    Shown("container.py", "Container"),
    Shown("process.py", "Process"),
    Shown("output.py", "ByteStream"),
    Shown("output.py", "Output"),
    Shown("stdin.py", "Stdin"),
    Shown("event_stream.py", "EventStream"),
    Shown("core/items.py", "Event"),
    Shown("core/items.py", "EventGap"),
    Shown("core/items.py", "Resync"),
    Shown("fleet.py", "FleetList"),
    Shown("fleet_map.py", "Mapped"),
    Shown("completed.py", "Completed"),
    Shown("bundle/bundles.py", "Bundles"),
    Shown("sync/client.py", "Client"),
]
WITHOUT_AWAIT = [
    Shown("sync/client.py", "Client"),
    Shown("sync/guest.py", "Guest"),
    Shown("sync/container.py", "Container"),
    Shown("sync/container.py", "Process"),
    Shown("sync/streams.py", "ByteStream"),
    Shown("sync/streams.py", "Output"),
    Shown("sync/streams.py", "Stdin"),
]
"""The faces of those classes in a program without an event loop."""


def page() -> str:
    """Return the text of api.md."""
    return "".join([HEAD, *(part for shown in CLASSES for part in _class(shown))]).rstrip() + "\n"


def methods(shown: Shown) -> dict[str, Function]:
    """Return the public methods and properties of a class, by name, without overloads."""
    found = {}
    for node in _node(shown).body:
        if isinstance(node, Function) and not node.name.startswith("_") and "overload" not in _decorators(node):
            found[node.name] = node
    return found


def documentation(node: Function | ast.ClassDef) -> str:
    """Return a docstring, empty if there is none."""
    return ast.get_docstring(node) or ""


def _node(shown: Shown) -> ast.ClassDef:
    for node in ast.parse((CLIENT / shown.file).read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == shown.name:
            return node
    raise LookupError(f"{shown.file}: no class {shown.name}")


def _class(shown: Shown) -> Iterator[str]:
    node = _node(shown)
    yield f"\n## {shown.name}\n\n"
    for member in node.body:
        if isinstance(member, Function) and member.name == "__init__" and shown.name in ("AsyncClient", "Client"):
            yield _block(f"{shown.name}{_arguments(member)}")
    yield from _paragraphs(documentation(node))
    if fields := list(_fields(node)):
        yield "".join(["| Field | Type | Meaning |\n|---|---|---|\n", *fields, "\n"])
    if shown.name == "Client":
        return
    for name, method in methods(shown).items():
        yield f"### {shown.name}.{name}\n\n"
        if "property" in " ".join(_decorators(method)):
            yield _block(f"{name}: {_type(method.returns)}")
        else:
            words = "await " if isinstance(method, ast.AsyncFunctionDef) and not _is_generator(method) else ""
            yield _block(f"{words}{name}{_arguments(method)} → {_type(method.returns)}")
        yield from _paragraphs(documentation(method))


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield rows for the fields of a dataclass; a string below a field is its meaning."""
    if not any("dataclass" in decorator for decorator in _decorators(node)):
        return
    for at, member in enumerate(node.body):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name) and not member.target.id.startswith("_"):
            below = node.body[at + 1] if at + 1 < len(node.body) else None
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
            meaning = below.value.value if is_text else ""  # type: ignore[union-attr]
            yield f"| `{member.target.id}` | `{_type(member.annotation)}` | {escaped(_flat(str(meaning)))} |\n".replace(
                " | None`", " or None`"
            )


def _decorators(node: Function | ast.ClassDef) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


def _is_generator(method: Function) -> bool:
    return any(isinstance(inner, ast.Yield) for inner in ast.walk(method))


def _arguments(method: Function) -> str:
    arguments = method.args
    positional = [*arguments.posonlyargs, *arguments.args][1:]
    missing = len(positional) - len(arguments.defaults)
    shown = [_argument(arg, arguments.defaults[at - missing] if at >= missing else None) for at, arg in enumerate(positional)]
    if arguments.kwonlyargs:
        shown.append("*")
        shown += [_argument(arg, default) for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return f"({', '.join(shown)})"


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    text = f"{arg.arg}: {_type(arg.annotation)}"
    if default is None:
        return text
    value = ast.unparse(default)
    return f"{text} = {'…' if value.startswith('_') else value}"


def _type(annotation: ast.expr | None) -> str:
    if annotation is None:
        return "None"
    return ast.unparse(annotation).replace('"', "").replace("'", "")


def _block(signature: str) -> str:
    wrapped = signature
    if len(signature) > 100 and "(" in signature:
        head, _, rest = signature.partition("(")
        inside, _, tail = rest.rpartition(")")
        wrapped = f"{head}(\n" + "".join(f"    {argument},\n" for argument in re.split(r", (?![^\[]*\])", inside)) + f"){tail}"
    return f"```text\n{wrapped}\n```\n\n"


def _paragraphs(text: str) -> Iterator[str]:
    for part in text.split("\n\n"):
        if part.strip():
            yield _ARGUMENT.sub(r"\1`\2`: ", escaped(_flat(part))) + "\n\n"


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
