"""One Struct as a section of PROTOCOL.md: what it is, a table of its fields, and example bytes from its golden sample."""

import inspect
import json
from pathlib import Path

import msgspec
from msgspec import inspect as types

from corral_schemas.base import INT64_MAX

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "schemas" / "golden"


def type_text(info: types.Type) -> str:
    """A type in the words of PROTOCOL.md, with its bounds."""
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
            return f"[{info.cls.__name__}](#{info.cls.__name__.lower()})"
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


def _meaning(info: types.Type) -> str:
    return (info.extra_json_schema or {}).get("description", "") if isinstance(info, types.Metadata) else ""


def _presence(field: types.Field) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Raw):
        return "one of both"
    return f"default `{json.dumps(msgspec.to_builtins(default))}`"


def table(head: str, rows: list[list[str]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|" + "---|" * columns]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows])


def struct_text(kind: type) -> str:
    """What it is, its fields, and example bytes where there is a golden sample."""
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    rows = [[f"`{field.encode_name}`", type_text(field.type), _presence(field), _meaning(field.type)] for field in info.fields]
    own_words = inspect.cleandoc(kind.__doc__ or "") if not (kind.__doc__ or "").startswith(f"{kind.__name__}(") else ""
    fields = table("Field | Type | Presence | Meaning", rows) if rows else "No fields: an empty map."
    return "\n\n".join(text for text in (own_words, fields, _example(kind.__name__)) if text)


def _example(name: str) -> str:
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        return ""
    sample = json.loads(path.read_text())["good"]["full"]
    shown = json.dumps(sample["json"], ensure_ascii=False)
    return f"Example: `{shown}`\n\n```\n{hex_lines(sample['msgpack'])}\n```"


def hex_lines(digits: str) -> str:
    return "\n".join(digits[start : start + 128] for start in range(0, len(digits), 128))
