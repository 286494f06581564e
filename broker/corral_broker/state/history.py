"""What a broker keeps of its own events: which guest came or went, when and why, and when the broker itself began and ended.

Bounded in count and bytes: the oldest go first. Seqs rise over all starts of the broker and may leave some out; no seq is used twice.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import msgspec

from corral_schemas.errors import error
from corral_schemas.events import EventHeader
from corral_schemas.limits import REPLAY_BYTES_MAX
from corral_schemas.queries import ReplayArgs, ReplayReply

HISTORY_EVENTS_MAX = 50_000
"""Most of a broker's own events that it keeps."""
HISTORY_BYTES_MAX = 16 << 20
"""Their headers and payloads together."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One event as it was published."""

    header: bytes
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.header) + len(self.payload)


@dataclass(slots=True)
class Standing:
    """What the history says last of one guest."""

    up: bool = False
    since_ns: int = 0
    reason: str = ""
    up_seq: int = 0
    down_seq: int = 0


class _Reason(msgspec.Struct):
    reason: str = ""


_reason = msgspec.msgpack.Decoder(_Reason)


class History:
    """No I/O: `store` is told of each new event before anybody else is."""

    def __init__(self, epoch: str, *, durable: bool = False, seq: int = 0, store: Callable[[Entry], None] = lambda _: None) -> None:
        """`seq`: the newest that may have been used."""
        self.epoch = epoch
        self.durable = durable
        self.seq = seq
        self._store = store
        self._entries: deque[tuple[int, str, Entry]] = deque()  # seq, kind, event; oldest first
        self._bytes = 0
        self._dropped_seq = 0  # newest that is no longer kept

    @property
    def entries(self) -> Iterable[Entry]:
        """Oldest first."""
        return (entry for _, _, entry in self._entries)

    def add(self, header: EventHeader, entry: Entry) -> None:
        """Takes in a new event, which may be published afterwards."""
        self.seq = header.seq
        self._keep(header, entry)
        self._store(entry)

    def load(self, events: Iterable[tuple[EventHeader, Entry]]) -> dict[str, Standing]:
        """Takes in what was kept, and tells where each guest stood last."""
        standing: dict[str, Standing] = {}
        for header, entry in events:
            self.seq = max(self.seq, header.seq)
            self._keep(header, entry)
            one = standing.setdefault(header.guest, Standing())
            if header.kind == "guest_up":
                one.up, one.since_ns, one.reason, one.up_seq = True, header.time_ns, "", header.seq
            elif header.kind == "guest_down":
                one.up, one.since_ns, one.down_seq = False, header.time_ns, header.seq
                one.reason = _reason.decode(entry.payload).reason
        standing.pop("", None)  # the broker itself
        return standing

    def replay(self, args: ReplayArgs) -> ReplayReply:
        """As a guest answers it for its journal. Raises cursor_too_old."""
        if args.epoch not in ("", self.epoch) or args.after > self.seq:
            raise error("cursor_too_old", f"this broker's own events are of epoch {self.epoch}, up to {self.seq}", epoch=self.epoch)
        if args.epoch and args.after < self._dropped_seq:
            raise error("cursor_too_old", f"events up to {self._dropped_seq} are no longer kept", epoch=self.epoch)
        wanted = set(args.kinds)
        events: list[tuple[bytes, bytes]] = []
        size, upto = 0, max(args.after, self._dropped_seq)
        for seq, kind, entry in islice(self._entries, self._index_after(args.after), None):
            if len(events) >= args.limit or size >= REPLAY_BYTES_MAX:
                break
            upto = seq
            if not wanted or kind in wanted:
                events.append((entry.header, entry.payload))
                size += entry.size
        else:
            upto = self.seq
        return ReplayReply(epoch=self.epoch, events=events, upto=upto, last_seq=self.seq, durable=self.durable)

    def _index_after(self, seq: int) -> int:
        """Of the first entry beyond it. The newest are asked for most, and a deque is quick at both ends."""
        if not self._entries or self._entries[0][0] > seq:
            return 0
        behind = 0
        for known, _, _ in reversed(self._entries):
            if known <= seq:
                break
            behind += 1
        return len(self._entries) - behind

    def _keep(self, header: EventHeader, entry: Entry) -> None:
        self._entries.append((header.seq, header.kind, entry))
        self._bytes += entry.size
        while len(self._entries) > HISTORY_EVENTS_MAX or self._bytes > HISTORY_BYTES_MAX:
            self._dropped_seq, _, oldest = self._entries.popleft()
            self._bytes -= oldest.size
