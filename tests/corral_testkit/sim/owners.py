"""Who owns a guest's session at a broker, told by the broker's messages alone: the connection whose registration it took last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from corral_schemas import session
from corral_schemas.frames import unpack
from corral_testkit.sim.network import Connection, Frames


class Owners:
    """Of one life of a broker. What is wrong goes to `findings`."""

    def __init__(self, broker: str, findings: list[str]) -> None:
        self._broker, self._findings = broker, findings
        self._registering: dict[Connection, session.Register] = {}
        self._owners: dict[str, Connection] = {}  # guest -> the connection that has its main session

    def from_worker(self, connection: Connection, frames: Frames) -> None:
        if frames[0] == session.REGISTER:
            self._registering[connection] = unpack(session.Register, frames[1], "register")

    def to_worker(self, connection: Connection, frames: Sequence[Any]) -> None:
        register = self._registering.get(connection)
        if frames[0] == session.REGISTERED and register is not None and register.role == "main":
            self._owners[register.guest] = connection

    def published(self, frames: Sequence[Any]) -> None:
        """G14: a guest is not said to be disconnected while the connection that owns its session stands."""
        topic = frames[0].split(b"/")
        if topic[0] != b"event" or topic[2] != b"guest_down":
            return
        guest, reason = topic[1].decode(), msgspec.msgpack.decode(frames[2])["reason"]
        owner = self._owners.pop(guest, None)
        if reason == "disconnected" and owner is not None and owner.dialler_open and owner.listener_open:
            self._findings.append(f"G14 {self._broker} says that {guest} is {reason}, but the connection that registered last stands")
