"""Where the broker's core puts what it sends, and what an opaque frame is to it."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

from corral_schemas.base import Message
from corral_schemas.frames import pack

Opaque: TypeAlias = Any
"""Bytes that the broker forwards unread: `bytes`, or any object with a length and the buffer protocol that the shell received it in."""

Frames: TypeAlias = Sequence[Opaque]


Delivery: TypeAlias = Literal["sent", "full", "gone"]
"""What became of a message to a worker: queued, not queued because its queue is full, or its connection is no more."""


class Ports(Protocol):
    """The four ways out of the core. The shell sends; a test or a simulation records."""

    def to_client(self, frames: Frames) -> None:
        """[client, header, body]; a client that is gone gets nothing, and that is no error."""

    def to_worker(self, frames: Frames) -> Delivery:
        """[session, kind, …]"""

    def publish_event(self, frames: Frames) -> None:
        """[topic, header, payload] to the subscribers of events."""

    def publish_stdio(self, frames: Frames) -> None:
        """[topic, header, bytes] to the subscribers of stdio."""


def post(ports: Ports, session: bytes | None, kind: bytes, message: Message) -> Delivery:
    """Sends a worker one of the session's own messages; a session of None is one that is gone."""
    return ports.to_worker([session, kind, pack(message)]) if session is not None else "gone"
