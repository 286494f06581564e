"""What a stream of events is to give, and what follows from that for subscriptions and for finding losses. No I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from corral.core.membership import Membership
from corral.selectors import Selector
from corral_schemas.cursor import Place
from corral_schemas.events import BROKER_KINDS, RECORDED_KINDS, EventHeader
from corral_schemas.topics import event_prefix


@dataclass(frozen=True)
class Selection:
    """kinds, guests, members: only these, None for all. start: where to begin, by guest; None: from now.

    A stream of one kind of named guests subscribes to just that (`narrow`) and finds losses by `prev`, the seq of the event before it of
    the same kind. Every other stream is sent all events of its guests and finds losses by `seq`: with several kinds `prev` could tell that
    something is missing only after a later event of another kind had been handed on, and the order would be lost.
    """

    kinds: frozenset[str] | None = None
    guests: frozenset[str] | None = None
    members: Membership | None = None
    start: Mapping[str, Place] | None = None
    broker_events: bool = True
    beacons: bool = False

    @property
    def journal_kinds(self) -> frozenset[str] | None:
        """Kinds of guests' journals that are wanted; None: all."""
        return None if self.kinds is None else self.kinds - BROKER_KINDS

    @property
    def narrow(self) -> bool:
        return self.guests is not None and self.journal_kinds is not None and len(self.journal_kinds) <= 1

    def has_guest(self, guest: str) -> bool:
        return (self.guests is None or guest in self.guests) and (self.members is None or self.members.has(guest))

    def gives(self, kind: str) -> bool:
        """Whether events of this kind are handed on."""
        wanted = self.kinds is None or kind in self.kinds
        if kind == "beacon":
            return self.beacons or (self.kinds is not None and wanted)
        return wanted and (self.broker_events or kind not in BROKER_KINDS)

    def before(self, header: EventHeader) -> int:
        """Nothing that is wanted lies between this seq and the event."""
        return header.prev if self.narrow else header.seq - 1

    def newest(self, seq: int, last_seq_by_kind: Mapping[str, int]) -> int:
        """The newest seq that is wanted, by what a heartbeat says."""
        if not self.narrow:
            return seq
        return max((last_seq_by_kind.get(kind, 0) for kind in self.journal_kinds or ()), default=0)

    def prefixes(self) -> list[bytes]:
        """What to subscribe to."""
        if self.guests is None:
            return [event_prefix()]
        if not self.narrow:
            return [event_prefix(guest) for guest in sorted(self.guests)]
        kinds = sorted((self.journal_kinds or frozenset()) | (BROKER_KINDS - RECORDED_KINDS))
        return [event_prefix(guest, kind) for guest in sorted(self.guests) for kind in kinds]


def selection(
    kinds: Collection[str] | None,
    guests: Collection[str] | None,
    select: Selector | None,
    start: Mapping[str, Place] | None,
    broker_events: bool,
    beacons: bool,
) -> Selection:
    """A Selection out of any collections. A selector that only lists names is the same as `guests`."""
    if select is not None and guests is None and select.plain:
        guests, select = select.names, None
    return Selection(
        kinds=None if kinds is None else frozenset(kinds),
        guests=None if guests is None else frozenset(guests),
        members=None if select is None else Membership(select),
        start=start,
        broker_events=broker_events,
        beacons=beacons,
    )
