"""The broker's own events: guest_up and guest_down, in an epoch and sequence of its own, and each guest's beacon.

They are kept in the history before they are published: after a gap a reader asks the broker to `replay`, as it asks a guest. `prev` is the
seq of the same guest's previous event of that kind (0 for the first), so that a subscriber to one guest sees loss too.
"""

from collections.abc import Callable

from corral_broker.state.guest import Guest
from corral_broker.state.history import Entry, History
from corral_broker.state.ports import Frames
from corral_schemas.base import Message
from corral_schemas.cursor import Place
from corral_schemas.events import Beacon, BrokerStarted, BrokerStopped, EventHeader, GuestDown, GuestUp
from corral_schemas.frames import encode_event
from corral_schemas.session import Heartbeat
from corral_schemas.topics import event_topic


class BrokerEvents:
    """Numbers and publishes what the broker itself has to say."""

    def __init__(self, instance: str, history: History, publish: Callable[[Frames], None]) -> None:
        self._instance = instance
        self._history = history
        self._publish = publish

    @property
    def place(self) -> Place:
        """After the newest guest_up or guest_down."""
        return Place(epoch=self._history.epoch, seq=self._history.seq)

    def broker_started(self, payload: BrokerStarted, wall_ns: int) -> None:
        """Recorded only: nobody can have subscribed yet, and an event about no guest is none for older readers."""
        self._record(self._own_header("", "broker_started", 0, wall_ns), payload)

    def broker_stopped(self, wall_ns: int) -> None:
        self._record(self._own_header("", "broker_stopped", 0, wall_ns), BrokerStopped())

    def guest_up(self, guest: Guest, wall_ns: int) -> None:
        header = self._own_header(guest.name, "guest_up", guest.last_up_seq, wall_ns)
        guest.last_up_seq = header.seq
        payload = GuestUp(labels=guest.labels, epoch=guest.epoch, seq=guest.seq)
        self._publish(self._record(header, payload))

    def guest_down(self, guest: Guest, wall_ns: int) -> None:
        header = self._own_header(guest.name, "guest_down", guest.last_down_seq, wall_ns)
        guest.last_down_seq = header.seq
        self._publish(self._record(header, GuestDown(reason=guest.reason)))

    def beacon(self, guest: Guest, heartbeat: Heartbeat, wall_ns: int) -> None:
        """Published for each heartbeat; epoch and seq are the guest's."""
        header = EventHeader(
            guest=guest.name, epoch=heartbeat.epoch, seq=heartbeat.seq, prev=0, worker=self._instance, time_ns=wall_ns, kind="beacon"
        )
        payload = Beacon(mark=heartbeat.mark, last_seq_by_kind=heartbeat.last_seq_by_kind, load=heartbeat.load)
        self._publish(encode_event(event_topic(guest.name, "beacon"), header, payload))

    def _own_header(self, guest: str, kind: str, prev: int, wall_ns: int) -> EventHeader:
        place = self.place
        return EventHeader(guest=guest, epoch=place.epoch, seq=place.seq + 1, prev=prev, worker=self._instance, time_ns=wall_ns, kind=kind)

    def _record(self, header: EventHeader, payload: Message) -> list[bytes]:
        frames = encode_event(event_topic(header.guest, header.kind), header, payload)
        self._history.add(header, Entry(frames[1], frames[2]))
        return frames
