"""Messages between worker, shim and zygote, held against their definitions; and an observer of shims for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from corral_worker.shim.messages import FROM_SHIM, FROM_ZYGOTE, NOTICES, TO_SHIM, TO_ZYGOTE, Notice, definition

INCOMING: dict[str, type] = {**FROM_SHIM, **FROM_ZYGOTE}
"""What a worker may get."""
OUTGOING: dict[str, type] = {**TO_SHIM, **TO_ZYGOTE}
"""What a worker may send, requests apart."""


def readable(message: Mapping[str, Any], table: dict[str, type]) -> dict[str, Any]:
    """The message as a peer of today reads it, without fields that it does not know. Raises msgspec.ValidationError."""
    kind = definition(dict(message), TO_SHIM if table is OUTGOING and message.get("t") == "request" else table)
    assert kind is not None, f"no definition of {message}"
    return dict(msgspec.convert(message, kind))


def checked(message: dict[str, Any], table: dict[str, type]) -> dict[str, Any]:
    """The message, which is defined with each of its fields. AssertionError otherwise."""
    try:
        assert readable(message, table) == message, f"fields that are not defined in {message}"
    except msgspec.ValidationError as why:
        raise AssertionError(f"{why}: {message}") from why
    return message


def as_notice(message: dict[str, Any]) -> Notice:
    """The notice as a worker's link passes it on. AssertionError unless it is defined with each of its fields."""
    notice: Notice = msgspec.convert(checked(message, NOTICES), NOTICES[message["t"]])
    return notice


class Observer:
    """Keeps what it is told."""

    def __init__(self, ended: list[str] | None = None) -> None:
        self.notices: list[tuple[str, Notice]] = []
        self.ended: list[str] = [] if ended is None else ended

    def notice(self, instance: str, notice: Notice) -> None:
        self.notices.append((instance, notice))

    def gone(self, instance: str) -> None:
        self.ended.append(instance)
