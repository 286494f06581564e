"""Reads the golden samples. They are written once by add_golden.py and never change: they are the wire, as promised."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from corral_schemas.document.catalogue import messages
from corral_schemas.errors import WireError

GOLDEN = Path(__file__).resolve().parent / "golden"
EXCHANGES = "exchanges"
"""The folder of whole messages; each other folder is named after the lowest conformance level that needs what is in it."""


class ReplyBodyRead(msgspec.Struct, frozen=True, kw_only=True):
    """ReplyBody as msgspec.convert can fill it: the codec's own keeps `ok` as raw bytes."""

    ok: dict[str, Any] | None = None
    error: WireError | None = None


class Sample(NamedTuple):
    message: str
    name: str
    packed: bytes
    json: Any
    """The JSON form; None for a bad sample that only bytes can show."""
    code: str
    """The error a bad sample gives; empty for a good one."""

    @property
    def kind(self) -> type:
        return ReplyBodyRead if self.message == "ReplyBody" else messages()[self.message]


class Exchange(NamedTuple):
    name: str
    frames: list[bytes]
    decoder: str
    code: str


@cache
def _file(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def _samples(which: str) -> list[Sample]:
    found = []
    for path in sorted(GOLDEN.glob("*/*.json"), key=lambda path: path.name):
        if path.parent.name == EXCHANGES:
            continue
        for name, row in _file(path)[which].items():
            found.append(Sample(path.stem, name, bytes.fromhex(row["msgpack"]), row.get("json"), row.get("code", "")))
    return found


def good_samples() -> list[Sample]:
    return _samples("good")


def bad_samples() -> list[Sample]:
    return _samples("bad")


def exchanges(which: str) -> list[Exchange]:
    """Whole messages of several frames; `which` is good or bad."""
    rows = _file(GOLDEN / EXCHANGES / f"{which}.json")
    return [Exchange(n, [bytes.fromhex(f) for f in row["frames"]], row["decoder"], row.get("code", "")) for n, row in rows.items()]


def label(sample: Sample | Exchange) -> str:
    """A test's id."""
    return f"{sample.message}-{sample.name}" if isinstance(sample, Sample) else sample.name


def jsonable(value: Any) -> Any:
    """Plain values with bytes as base64, as msgspec writes JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: jsonable(inner) for key, inner in value.items()}
    return [jsonable(inner) for inner in value] if isinstance(value, list) else value
