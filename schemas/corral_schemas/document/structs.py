"""One Struct as a section of a page: what it is, a table of its fields, and an example from its golden samples."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from corral_schemas.base import INT64_MAX
from corral_schemas.document.catalogue import level_of, messages

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "schemas" / "golden"


def type_text(info: types.Type) -> str:
    """A type in the words of the protocol, with its bounds."""
    match info:
        case types.Metadata():
            return type_text(info.type)
        case types.IntType() | types.FloatType():
            return _number_text(info)
        case types.StrType():
            return "str" + _length_text(info.min_length, info.max_length, "characters")
        case types.BytesType():
            return "bin" + _length_text(info.min_length, info.max_length, "bytes")
        case types.LiteralType():
            return " or ".join(f'`"{value}"`' for value in info.values)
        case types.UnionType():
            return " or ".join(type_text(choice) for choice in info.types)
        case types.ListType():
            return "array of " + type_text(info.item_type) + _length_text(info.min_length, info.max_length, "items")
        case types.TupleType():
            return "array of [" + ", ".join(type_text(item) for item in info.item_types) + "]"
        case types.DictType():
            return f"map of {type_text(info.key_type)} to {type_text(info.value_type)}"
        case types.StructType():
            return f"[{info.cls.__name__}](@{info.cls.__name__})"
    plain = {types.BoolType: "bool", types.NoneType: "nil", types.AnyType: "any", types.RawType: "map"}
    return plain[type(info)]


def _number_text(info: types.IntType | types.FloatType) -> str:
    name = "int" if isinstance(info, types.IntType) else "float"
    most = None if info.le == INT64_MAX else info.le  # said once, for all integers
    bounds = {"≥": info.ge, ">": info.gt, "≤": most, "<": info.lt}
    return " ".join([name, *(f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None)])


def _length_text(least: int | None, most: int | None, unit: str) -> str:
    said = [f"{sign} {bound}" for sign, bound in (("≥", least), ("≤", most)) if bound is not None]
    return f" ({', '.join(said)} {unit})" if said else ""


def meaning(info: types.Type) -> str:
    """What a field is for; empty where its Struct does not say."""
    return (info.extra_json_schema or {}).get("description", "") if isinstance(info, types.Metadata) else ""


def _presence(field: types.Field) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Raw):
        return "one of both"
    return f"optional (`{json.dumps(msgspec.to_builtins(default))}`)"


def table(head: str, rows: list[list[str]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|" + "---|" * columns]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows])


def own_words(kind: type) -> str:
    """A Struct's docstring; empty where it has only the one that msgspec makes."""
    said = kind.__doc__ or ""
    return "" if said.startswith(f"{kind.__name__}(") else inspect.cleandoc(said)


def fields_text(kind: type) -> str:
    """What a Struct is, and the table of its fields."""
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    rows = [[f"`{field.encode_name}`", type_text(field.type), _presence(field), meaning(field.type)] for field in info.fields]
    fields = table("Field | Type | Presence | Meaning", rows) if rows else "No fields: an empty map."
    return "\n\n".join(text for text in (own_words(kind), fields) if text)


def struct_text(kind: type) -> str:
    """What it is, its fields, and an example where there is a golden sample."""
    return "\n\n".join(text for text in (fields_text(kind), example_text(kind.__name__)) if text)


def example_text(name: str, before: str = "Example") -> str:
    """A golden sample in its JSON form, and where its bytes are; empty for what is no message."""
    sample = golden_sample(name)
    if sample is None:
        return ""
    label, value = sample
    shown = value if name == "ExitEvent" else shortened(value)
    return f"{before} ([bytes](@golden/{level_of(name)}/{name}.json), sample `{label}`): `{json.dumps(shown, ensure_ascii=False)}`"


def golden_sample(name: str) -> tuple[str, Any] | None:
    """The sample of a message that is shown: `example`, or where there is none the `full` one."""
    if name not in messages():
        return None
    good = json.loads((GOLDEN / level_of(name) / f"{name}.json").read_text())["good"]
    label = "example" if "example" in good else "full"
    return label, good[label]["json"]


def shortened(value: Any) -> Any:
    """The same with each `exit` inside it cut to its main members: it stands in full once, in the payload of the event `exit`."""
    if isinstance(value, dict):
        return {key: _short_exit(inner) if key == "exit" else shortened(inner) for key, inner in value.items()}
    return [shortened(inner) for inner in value] if isinstance(value, list) else value


def _short_exit(value: Any) -> Any:
    return {key: value[key] for key in ("type", "code", "signal", "reason") if key in value} if isinstance(value, dict) else value
