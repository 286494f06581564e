"""A place in the journals of guests: (epoch, seq) per guest, and one opaque string for all of them."""

import base64
from typing import Annotated

import msgspec
from msgspec import Meta

from corral_schemas.base import Count, Mark, Message
from corral_schemas.errors import error


class Place(Message, frozen=True, kw_only=True):
    """A place in one guest's journal: everything up to and including `seq` of `epoch`."""

    epoch: Annotated[str, Meta(description="Random id of the journal's life; new when the journal is lost or rewound")]
    seq: Annotated[Count, Meta(description="Sequence number of an event; 0 before the first")]
    mark: Mark = 0


class Cursor(Message, frozen=True, kw_only=True):
    """Where a reader stands: guest → place. Guests not in it are read from their beginning (or from now, as the reader asks)."""

    places: Annotated[dict[str, Place], Meta(description="Guest name → place")] = {}

    def advanced(self, guest: str, place: Place) -> "Cursor":
        """The same cursor with one guest's place replaced."""
        return Cursor(places={**self.places, guest: place})


class PlaceRow(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A Place as it is stored: `[epoch, seq, mark]`. Entries at the end may be missing, or be more than are known here."""

    epoch: str
    seq: Count
    mark: Mark = 0

    def place(self) -> Place:
        return Place(epoch=self.epoch, seq=self.seq, mark=self.mark)


def row_of(place: Place) -> PlaceRow:
    return PlaceRow(place.epoch, place.seq, place.mark)


def cursor_to_text(cursor: Cursor) -> str:
    """One opaque, URL-safe string."""
    packed = msgspec.msgpack.encode({guest: row_of(place) for guest, place in sorted(cursor.places.items())})
    return "c1." + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def cursor_from_text(text: str) -> Cursor:
    """Raises bad_request for a string that cursor_to_text did not make."""
    try:
        version, _, packed = text.partition(".")
        if version != "c1":
            raise ValueError("it does not begin with `c1.`")
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        rows = msgspec.msgpack.decode(raw, type=dict[str, PlaceRow])
    except (ValueError, msgspec.DecodeError, msgspec.ValidationError) as why:
        raise error("bad_request", f"not a cursor: {why}") from why
    return Cursor(places={guest: row.place() for guest, row in rows.items()})
