"""What an event stream gives: events, and explicit word of what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral_schemas.base import Message
from corral_schemas.cursor import Cursor, Place, cursor_to_text
from corral_schemas.events import EventHeader


@dataclass(frozen=True, slots=True)
class Event:
    """One event, delivered once and in its guest's order."""

    header: EventHeader
    """Guest, place, kind, container, process and time."""
    data: dict[str, Any]
    """The payload as a plain map, fields unknown to this version included."""
    payload: Message | None
    """The payload as the Struct of its kind; None for a kind unknown here."""
    places: Mapping[str, Place] = field(default_factory=dict[str, Place], repr=False, compare=False)
    """Where the stream stood once this event was delivered: guest → place."""

    @property
    def guest(self) -> str:
        return self.header.guest

    @property
    def kind(self) -> str:
        return self.header.kind

    @property
    def cursor(self) -> str:
        """Return text to store: a stream opened `after` it continues right behind this event."""
        return cursor_to_text(Cursor(places=dict(self.places)))


@dataclass(frozen=True, slots=True)
class EventGap:
    """Events that will not come: all from `start` to `end`, both included.

    With an empty guest they are a broker's (guest_up, guest_down): `guests` returns the present state.
    """

    guest: str
    epoch: str
    """The life of the guest's journal in which they are missing."""
    start: int
    """Seq of the first missing event."""
    end: int
    """Seq of the last missing event."""
    reason: str
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class Resync:
    """The place followed from is void (a new epoch, or too old). Take a new list; the stream continues right after `place`."""

    guest: str
    reason: str
    """Why, in words."""
    place: Place
    """Where the stream continues in the guest's journal."""


Item = Event | EventGap | Resync


@dataclass(frozen=True, slots=True)
class Advance:
    """Not for the reader, only for its cursor: everything of this guest up to `place` has been looked at."""

    guest: str
    place: Place


Step = Item | Advance
