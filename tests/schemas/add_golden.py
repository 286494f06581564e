"""Adds golden samples for messages that have none yet: `python tests/schemas/add_golden.py`, from a checkout with Corral installed.

It never touches a sample that exists: old bytes are what older peers send. A sample is taken back only by hand, with a reason.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from corral_schemas.document.catalogue import level_of, messages
from corral_schemas.frames import pack
from schemas import golden_exchanges
from schemas.golden_events import FULL, MORE, REPLY_BODIES
from schemas.golden_examples import EXAMPLES
from schemas.golden_store import EXCHANGES, GOLDEN, jsonable

Row = dict[str, Any]
WRONG: Any = {"wrong": True}


def plain(value: Any) -> Any:
    """The message as msgpack carries it."""
    return msgspec.msgpack.decode(pack(value))


def good_row(value: Any) -> Row:
    return {"json": jsonable(plain(value)), "msgpack": pack(value).hex()}


def bad_row(value: Any, code: str = "bad_request") -> Row:
    return good_row(value) | {"code": code}


def example(name: str) -> Row:
    return {"example": EXAMPLES[name]} if name in EXAMPLES else {}


def good_rows(name: str, kind: type) -> Iterator[tuple[str, Row]]:
    if name == "ReplyBody":
        samples: dict[str, Any] = dict(REPLY_BODIES)
    else:
        full = plain(FULL[name])
        required = {field.encode_name for field in fields_of(kind) if field.required}
        samples = {
            "full": full,
            "minimal": {field: full[field] for field in full if field in required},
            **MORE.get(name, {}),
            **example(name),
        }
    for label, sample in samples.items():
        yield label, good_row(sample)
    yield "unknown_fields", good_row(plain(samples["full"]) | {"from_the_future": [1, {"deep": None}], "": 0})


def bad_rows(name: str, kind: type, full: Row) -> Iterator[tuple[str, Row]]:
    """Every way in which one field can be wrong, and bytes that are no message at all."""
    packed = bytes.fromhex(full["msgpack"])
    value = msgspec.msgpack.decode(packed)
    yield "not_a_map", bad_row([1, 2, 3])
    yield "empty", {"msgpack": "", "code": "bad_request"}
    yield "truncated", {"msgpack": (b"\x81" if packed == b"\x80" else packed[:-1]).hex(), "code": "bad_request"}
    yield "trailing_bytes", {"msgpack": (packed + b"\x80").hex(), "code": "bad_request"}
    yield "never_used_opcode", {"msgpack": "c1", "code": "bad_request"}
    for field in fields_of(kind):
        if field.required:
            yield f"{field.encode_name}_missing", bad_row({k: v for k, v in value.items() if k != field.encode_name})
        if field.encode_name == "ok":
            continue
        wrong = 7 if isinstance(bare(field.type), types.DictType | types.StructType) else WRONG
        yield f"{field.encode_name}_of_wrong_type", bad_row(value | {field.encode_name: wrong})
        for label, beyond in beyond_bounds(field.type):
            yield f"{field.encode_name}_{label}", bad_row(value | {field.encode_name: beyond})


def fields_of(kind: type) -> tuple[types.Field, ...]:
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    return info.fields


def bare(info: types.Type) -> types.Type:
    """A type without its description and without `or nil`."""
    while isinstance(info, types.Metadata | types.UnionType):
        if isinstance(info, types.Metadata):
            info = info.type
        else:
            info = next(choice for choice in info.types if not isinstance(bare_metadata(choice), types.NoneType))
    return info


def bare_metadata(info: types.Type) -> types.Type:
    return info.type if isinstance(info, types.Metadata) else info


def beyond_bounds(info: types.Type) -> Iterator[tuple[str, Any]]:
    info = bare(info)
    if isinstance(info, types.IntType):
        bounds = {"too_small": (info.ge, -1), "too_large": (info.le, 1), "at_its_open_end": (info.lt, 0)}
        yield from ((label, int(bound) + step) for label, (bound, step) in bounds.items() if bound is not None)
    elif isinstance(info, types.StrType):
        if info.max_length is not None:
            yield "too_long", "x" * (info.max_length + 1)
        if info.min_length:
            yield "too_short", ""
    elif isinstance(info, types.LiteralType):
        yield "unknown", "no-such-value"


def add(path: Path, fresh: dict[str, Any]) -> int:
    """Adds what is missing in one file; → how many samples were added."""
    old = json.loads(path.read_text()) if path.exists() else {}
    added = 0
    for group, rows in fresh.items():
        kept = old.setdefault(group, {})
        for label, row in rows.items():
            if label not in kept:
                kept[label] = row
                added += 1
    if added:
        path.write_text(json.dumps(old, indent=1, ensure_ascii=False) + "\n")
    return added


def main() -> None:
    added = 0
    for name, kind in messages().items():
        good = dict(good_rows(name, kind))
        added += add(GOLDEN / level_of(name) / f"{name}.json", {"good": good, "bad": dict(bad_rows(name, kind, good["full"]))})
    for which, rows in (("good", golden_exchanges.good()), ("bad", golden_exchanges.bad())):
        path = GOLDEN / EXCHANGES / f"{which}.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        added += len(rows.keys() - old.keys())
        path.write_text(json.dumps(rows | old, indent=1, ensure_ascii=False) + "\n")
    print(f"{added} samples added")


if __name__ == "__main__":
    main()
