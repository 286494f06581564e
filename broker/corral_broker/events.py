"""The broker's own events: guest_up and guest_down, in an epoch and sequence of its own, and each guest's beacon.

They are kept nowhere: after a gap, or a new epoch, a reader asks `guests`, whose reply carries the place to follow on from. `prev` is the
seq of the same guest's previous event of that kind (0 for the first), so that a subscriber to one guest sees loss too.
"""

from collections.abc import Callable

from corral_broker.ports import Frames
from corral_broker.registry import Guest
from corral_schemas.cursor import Place
from corral_schemas.events import Beacon, EventHeader, GuestDown, GuestUp
from corral_schemas.frames import encode_event
from corral_schemas.session import Heartbeat
from corral_schemas.topics import event_topic


class BrokerEvents:
    """Numbers and publishes what the broker itself has to say."""

    def __init__(self, instance: str, epoch: str, publish: Callable[[Frames], None]) -> None:
        self._instance = instance
        self._epoch = epoch
        self._publish = publish
        self._seq = 0

    @property
    def place(self) -> Place:
        """After the newest guest_up or guest_down."""
        return Place(epoch=self._epoch, seq=self._seq)

    def guest_up(self, guest: Guest, wall_ns: int) -> None:
        header = self._own_header(guest, "guest_up", guest.last_up_seq, wall_ns)
        guest.last_up_seq = header.seq
        payload = GuestUp(labels=guest.labels, epoch=guest.epoch, seq=guest.seq)
        self._publish(encode_event(event_topic(guest.name, "guest_up"), header, payload))

    def guest_down(self, guest: Guest, wall_ns: int) -> None:
        header = self._own_header(guest, "guest_down", guest.last_down_seq, wall_ns)
        guest.last_down_seq = header.seq
        self._publish(encode_event(event_topic(guest.name, "guest_down"), header, GuestDown(reason=guest.reason)))

    def beacon(self, guest: Guest, heartbeat: Heartbeat, wall_ns: int) -> None:
        """Published for each heartbeat; epoch and seq are the guest's."""
        header = EventHeader(
            guest=guest.name, epoch=heartbeat.epoch, seq=heartbeat.seq, prev=0, worker=self._instance, time_ns=wall_ns, kind="beacon"
        )
        payload = Beacon(mark=heartbeat.mark, last_seq_by_kind=heartbeat.last_seq_by_kind, load=heartbeat.load)
        self._publish(encode_event(event_topic(guest.name, "beacon"), header, payload))

    def _own_header(self, guest: Guest, kind: str, prev: int, wall_ns: int) -> EventHeader:
        self._seq += 1
        return EventHeader(guest=guest.name, epoch=self._epoch, seq=self._seq, prev=prev, worker=self._instance, time_ns=wall_ns, kind=kind)
