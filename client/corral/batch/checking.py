"""Every mistake in a plan at once, each with its line, before anything runs."""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import inspect as types

from corral.batch.filling import placeholders
from corral.batch.plan import NAMES_MADE_UP, ItemsFrom, OpName, Plan, PlanText, StepText, handler_of, parse_duration, parse_window, to_step
from corral.batch.source import Document, Path, Problem, read, shown
from corral.selectors import parse_selector
from corral_schemas.errors import CorralError
from corral_schemas.names import check_container_id
from corral_schemas.ops import OPS

_WHERE = re.compile(r" - at `(?:key in )?\$?(.*)`\Z")
_PARTS = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")


class PlanError(Exception):
    """A plan with mistakes; `problems` has them all, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def read_plan(text: str, *, json_lines: bool = False) -> Plan:
    """Raises PlanError."""
    document = read(text, json_lines=json_lines)
    problems = [*document.problems, *(Problem(document.line_of(path), shown(path), message) for path, message in _mistakes(document))]
    if problems:
        raise PlanError(sorted(set(problems)))
    plan = msgspec.convert(document.data, PlanText)
    return Plan(tuple(to_step(step) for step in plan.steps))


Mistake = tuple[Path, str]


def _mistakes(document: Document) -> Iterator[Mistake]:
    if document.data is None:
        if not document.problems:
            yield (), "the plan is empty"
        return
    if not isinstance(document.data, dict):
        yield (), "a plan is a map with `version` and `steps`"
        return
    yield from check_struct(PlanText, document.data, (), but={"steps"})
    steps = document.data.get("steps")
    if "steps" in document.data and (not isinstance(steps, list) or not steps):
        yield ("steps",), "a list of at least one step is wanted"
    if not isinstance(steps, list):
        return
    for index, step in enumerate(steps):
        if isinstance(step, dict):
            yield from _step(step, ("steps", index))
        else:
            yield ("steps", index), "a step is a map with `name` and `op`"
    yield from _between_steps([step if isinstance(step, dict) else {} for step in steps])


def _step(step: dict[str, Any], path: Path) -> Iterator[Mistake]:
    yield from check_struct(StepText, step, path, but={"items", "args"})
    yield from _said_by(parse_selector, step.get("select"), (*path, "select"), str)
    yield from _said_by(parse_window, step.get("window"), (*path, "window"), int | str)
    for name in ("timeout", "step_timeout", "backoff"):
        yield from _said_by(parse_duration, step.get(name), (*path, name), int | float | str)
    yield from _items(step, path)
    op, args = step.get("op"), step.get("args", {})
    if not isinstance(args, dict):
        yield (*path, "args"), "a map of the op's arguments is wanted"
    elif isinstance(op, str) and op in get_args(OpName):
        yield from _args(op, args, (*path, "args"))
        if step.get("detach") is True and op not in ("run", "exec"):
            yield (*path, "detach"), f"{op} does not begin a process"
        yield from _placeholders(step, args, (*path, "args"))


def _items(step: dict[str, Any], path: Path) -> Iterator[Mistake]:
    items, path = step.get("items"), (*path, "items")
    if isinstance(items, dict):
        found = list(check_struct(ItemsFrom, items, path))
        yield from found
        if not found and sum(bool(items.get(name)) for name in ("file", "stdin", "range")) != 1:
            yield path, "exactly one of file, stdin and range is wanted"
        elif not found and isinstance(items.get("range"), list) and len(items["range"]) == 3 and items["range"][2] == 0:
            yield (*path, "range"), "a step of 0 never arrives"
    elif isinstance(items, list):
        for index, item in enumerate(items):
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                yield (*path, index), "an item is text or a number (quote it)"
        if not items:
            yield path, "no items: the step would have no targets"
    elif items is not None:
        yield path, "items are a list, or a map with one of file, stdin and range"
    elif step.get("on") == "any":
        yield (*path[:-1], "on"), "`any` spreads items over guests, and there are no items"


def _args(op: str, args: dict[str, Any], path: Path) -> Iterator[Mistake]:
    made_up = NAMES_MADE_UP.get(op)
    yield from check_struct(OPS[op].args, args, path, optional={made_up} if made_up else set())
    if op in ("run", "create") and bool(args.get("bundle")) == (args.get("spec") is not None):
        yield path, "a container is made from `bundle` or from `spec`: give exactly one of them"
    for name in ("container", "process"):
        value = args.get(name)
        if isinstance(value, str) and value and not list(placeholders(value)):
            yield from _said_by(check_container_id, value, (*path, name), str)


def _placeholders(step: dict[str, Any], args: dict[str, Any], path: Path) -> Iterator[Mistake]:
    if step.get("items") is None:
        for place, text in _texts(args, path):
            if "{}" in placeholders(text):
                yield place, "`{}` stands for an item, and the step has no items (write `{{}}` for a `{}` that stays)"


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _between_steps(steps: list[dict[str, Any]]) -> Iterator[Mistake]:
    names = [name for step in steps if isinstance(name := step.get("name"), str)]
    next_of: dict[str, str] = {}
    for index, step in enumerate(steps):
        name, on_failure = step.get("name"), step.get("on_failure")
        if isinstance(name, str) and name in names[:index]:
            yield ("steps", index, "name"), f"there is a step {name!r} already"
        if not isinstance(on_failure, str) or not (handler := handler_of(on_failure)):
            continue
        if handler not in names:
            nearest = get_close_matches(handler, names, 1)
            yield ("steps", index, "on_failure"), f"there is no step {handler!r}{f'; nearest: {nearest[0]}' if nearest else ''}"
        elif isinstance(name, str):
            next_of[name] = handler
            if _returns(name, next_of):
                yield ("steps", index, "on_failure"), f"`run {handler}` comes back to {name!r}"
    handlers = {handler_of(text) for step in steps if isinstance(text := step.get("on_failure"), str)}
    if names and len(names) == len(steps) and handlers >= set(names):
        yield ("steps",), "every step only runs when another one failed: none begins"


def _returns(name: str, next_of: dict[str, str]) -> bool:
    seen = {name}
    while (name := next_of.get(name, "")) and name not in seen:
        seen.add(name)
    return bool(name)


def _said_by(parse: Callable[[Any], object], value: Any, path: Path, kind: Any) -> Iterator[Mistake]:
    """What `parse` has against a value; one of another type was said by check_struct."""
    if value is None or isinstance(value, bool) or not isinstance(value, kind):
        return
    try:
        parse(value)
    except ValueError as why:
        yield path, str(why)
    except CorralError as why:
        yield path, why.message


def check_struct(
    kind: type[msgspec.Struct], data: dict[str, Any], path: Path, *, optional: set[str] | None = None, but: set[str] | None = None
) -> Iterator[Mistake]:
    """Each key unknown, missing or of another type, Structs within included. `optional`: may be missing. `but`: looked at elsewhere."""
    described = types.type_info(kind)
    assert isinstance(described, types.StructType)
    fields = {field.encode_name: field for field in described.fields}
    for key in data:
        if key not in fields:
            nearest = get_close_matches(str(key), fields, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(fields)}"
            yield (*path, key), f"unknown key; {hint}"
    for name, field in fields.items():
        if name not in data:
            if field.required and name not in (optional or ()):
                yield path, f"{name!r} is missing"
        elif name not in (but or ()):
            yield from _value(field.type, get_type_hints(kind, include_extras=True)[name], data[name], (*path, name))


def _value(described: types.Type, hint: Any, value: Any, path: Path) -> Iterator[Mistake]:
    described = described.type if isinstance(described, types.Metadata) else described
    inner = _struct_in(described)
    if inner is not None and isinstance(value, dict):
        yield from check_struct(inner, value, path)
        return
    items = described.item_type if isinstance(described, types.ListType) else None
    inner = None if items is None else _struct_in(items)
    if inner is not None and isinstance(value, list) and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from check_struct(inner, item, (*path, index))
        return
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as why:
        where = _WHERE.search(str(why))
        said = _WHERE.sub("", str(why))
        words = described.values if isinstance(described, types.LiteralType) else ()
        nearest = get_close_matches(str(value), list(map(str, words)), 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; there are: {', '.join(map(str, words))}" if words else ""
        yield (*path, *(_path_of(where[1]) if where else ())), said[:1].lower() + said[1:] + hint


def _struct_in(described: types.Type) -> type[msgspec.Struct] | None:
    """The Struct in `Struct`, `Struct | None` and with metadata around."""
    if isinstance(described, types.Metadata):
        return _struct_in(described.type)
    if isinstance(described, types.UnionType):
        found = [inner for option in described.types if (inner := _struct_in(option))]
        return found[0] if len(found) == 1 else None
    return described.cls if isinstance(described, types.StructType) else None


def _path_of(text: str) -> Path:
    """msgspec's `.a[0].b` → parts; `[...]` (some item) ends it."""
    parts: list[str | int] = []
    for index, key in _PARTS.findall(text.partition("[...]")[0]):
        parts.append(int(index) if index else key)
    return tuple(parts)
