"""The sockets as an AsyncAPI 3 document. A message's `headers` is its header frame, its `payload` the frame after that."""

from typing import Any

from corral_schemas import PROTOCOL_VERSION
from corral_schemas.document import BANNER
from corral_schemas.document.catalogue import SESSION
from corral_schemas.events import EVENT_KINDS
from corral_schemas.ops import OPS

Map = dict[str, Any]


def asyncapi() -> Map:
    """The whole document; schemas are references to json/*.json."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Corral",
            "version": str(PROTOCOL_VERSION),
            "description": f"{BANNER} The rules around these messages are in PROTOCOL.md.",
        },
        "defaultContentType": "application/msgpack",
        "servers": {name: _server(*about) for name, about in _SERVERS.items()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


_SERVERS = {
    "clients": (7700, "ROUTER, bound by the broker: commands of clients"),
    "workers": (7701, "ROUTER, bound by the broker: sessions of workers"),
    "eventsIn": (7702, "XSUB, bound by the broker: events published by workers"),
    "eventsOut": (7703, "XPUB, bound by the broker: events for subscribers"),
    "stdioIn": (7704, "XSUB, bound by the broker: stdio published by workers"),
    "stdioOut": (7705, "XPUB, bound by the broker: stdio for raw subscribers"),
}
_EVENT_PARTS = ("guest", "kind", "container", "process")
_STDIO_PARTS = ("guest", "container", "process", "stream")


def _server(port: int, description: str) -> Map:
    return {"host": f"broker:{port}", "protocol": "zmtp", "protocolVersion": "3.1", "description": description}


def _channels() -> Map:
    def channel(address: str, description: str, servers: list[str], names: list[str], parameters: tuple[str, ...] = ()) -> Map:
        made: Map = {
            "address": address,
            "description": description,
            "servers": [{"$ref": f"#/servers/{server}"} for server in servers],
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        }
        if parameters:
            made["parameters"] = {name: {} for name in parameters}
        return made

    commands = [f"{op}.command" for op in OPS]
    replies = [f"{op}.reply" for op in OPS]
    events = [f"event.{kind}" for kind in EVENT_KINDS]
    session = [f"session.{kind.decode()}" for kind in SESSION]
    return {
        "commands": channel("commands", "Frames [header, args]", ["clients"], commands),
        "replies": channel("replies", "Frames [header, body]", ["clients"], [*replies, "error.reply"]),
        "session": channel(
            "session",
            "Frames [kind, body]; commands and replies pass as [command, ref, header, args] and [reply, ref, header, body]",
            ["workers"],
            session,
        ),
        "events": channel(
            "event/{guest}/{kind}/{container}/{process}",
            "Frames [topic, header, payload]",
            ["eventsIn", "eventsOut"],
            events,
            _EVENT_PARTS,
        ),
        "stdio": channel(
            "stdio/{guest}/{container}/{process}/{stream}",
            "Frames [topic, header, bytes]",
            ["stdioIn", "stdioOut"],
            ["stdio"],
            _STDIO_PARTS,
        ),
    }


def _operations() -> Map:
    made: Map = {}
    for name, op in OPS.items():
        made[name] = {
            "action": "receive",
            "summary": (op.args.__doc__ or "").strip().splitlines()[0],
            "channel": {"$ref": "#/channels/commands"},
            "messages": [{"$ref": f"#/channels/commands/messages/{name}.command"}],
            "reply": {
                "channel": {"$ref": "#/channels/replies"},
                "messages": [{"$ref": f"#/channels/replies/messages/{message}"} for message in (f"{name}.reply", "error.reply")],
            },
        }
    for name in ("events", "stdio"):
        made[f"publish_{name}"] = {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
    made["hold_session"] = {"action": "receive", "channel": {"$ref": "#/channels/session"}}
    return made


def _messages() -> Map:
    def message(payload: Map, headers: str = "") -> Map:
        return ({"headers": _schema(headers)} if headers else {}) | {"payload": payload}

    made: Map = {}
    for name, op in OPS.items():
        made[f"{name}.command"] = message(_schema(op.args.__name__), "CommandHeader")
        made[f"{name}.reply"] = message(
            {"type": "object", "properties": {"ok": _schema(op.reply.__name__)}, "required": ["ok"]},
            "ReplyHeader",
        )
    made["error.reply"] = message(_schema("ReplyBody"), "ReplyHeader")
    for kind, payload in EVENT_KINDS.items():
        made[f"event.{kind}"] = message(_schema(payload.__name__), "EventHeader")
    made["stdio"] = message({"type": "string", "format": "binary"}, "StdioHeader") | {"contentType": "application/octet-stream"}
    for first_frame, body in SESSION.items():
        made[f"session.{first_frame.decode()}"] = message(_schema(body.__name__))
    return made


def _schema(name: str) -> Map:
    return {"$ref": f"./json/{name}.json"}
