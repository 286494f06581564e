"""JSON Schema of one message."""

import inspect
from typing import Any

import msgspec

from corral_schemas import PROTOCOL_VERSION, frames
from corral_schemas.document import BANNER
from corral_schemas.errors import WireError


def json_schema(kind: type) -> dict[str, Any]:
    """JSON Schema 2020-12 of a message in its JSON form (bytes as base64)."""
    schema = same_for_every_msgspec(msgspec.json.schema(_reply_body() if kind is frames.ReplyBody else kind))
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:corral:v{PROTOCOL_VERSION}:{kind.__name__}",
        "$comment": BANNER,
    }
    return {**head, **schema}


def same_for_every_msgspec(schema: Any) -> Any:
    """Remove from a JSON Schema what releases of msgspec differ in: a docstring keeps its indentation or not, `null` is first or last."""
    if isinstance(schema, list):
        return [same_for_every_msgspec(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    same = {key: same_for_every_msgspec(inner) for key, inner in schema.items()}
    if isinstance(same.get("description"), str):
        same["description"] = inspect.cleandoc(same["description"]).strip()
    if isinstance(same.get("anyOf"), list):
        same["anyOf"].sort(key=lambda one: bool(one == {"type": "null"}))
    return same


def _reply_body() -> type:
    """ReplyBody with `ok` as any map: the raw bytes that the codec keeps have no schema."""
    unset = msgspec.UNSET
    fields = [("ok", dict[str, Any] | msgspec.UnsetType, unset), ("error", WireError | msgspec.UnsetType, unset)]
    return msgspec.defstruct("ReplyBody", fields, namespace={"__doc__": frames.ReplyBody.__doc__})
