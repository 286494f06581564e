"""Whole messages from the golden exchanges: a conversation to read, and a list of what there is."""

import base64
import json
from typing import Any

import msgspec

from corral_schemas.document.structs import GOLDEN, shortened, table
from corral_schemas.events import EventHeader, mark_of

_CONVERSATION = (
    "hello",
    "hello reply",
    "run",
    "run reply",
    "read_stdio",
    "read_stdio reply",
    "wait",
    "wait reply",
    "exit of init",
    "replay",
    "replay reply",
)


def _good() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((GOLDEN / "exchanges" / "good.json").read_text())
    return read


def dialogue_text() -> str:
    """What a client and a broker say to each other around one container: the frames of each message on one line."""
    good = _good()
    said = []
    for name in _CONVERSATION:
        shown = ", ".join(_frame(bytes.fromhex(frame)) for frame in good[name]["frames"])
        said += [f"{name}: {good[name]['about']}", f"  [{shown}]"]
    return "```text\n" + "\n".join(said) + "\n```"


def _frame(frame: bytes) -> str:
    if frame.startswith((b"event/", b"stdio/")):
        return json.dumps(frame.decode())
    return json.dumps(shortened(_jsonable(msgspec.msgpack.decode(frame))), ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode() if len(value) < 8 else f"… {len(value)} bytes …"
    if isinstance(value, dict):
        return {key: _jsonable(inner) for key, inner in value.items()}
    return [_jsonable(inner) for inner in value] if isinstance(value, list) else value


def mark_text() -> str:
    """One event's mark, to check an implementation by."""
    header = msgspec.msgpack.decode(bytes.fromhex(_good()["exit of init"]["frames"][1]), type=EventHeader)
    text = f"{header.time_ns}/{header.kind}/{header.instance}/{header.process_instance}"
    return f"The mark of the exit above: CRC-32 of `{text}` = `{mark_of(header)}`."


def list_text() -> str:
    """Name and meaning of every whole message among the golden samples."""
    return table("Exchange | What it is", [[f"`{name}`", row["about"]] for name, row in _good().items()])
