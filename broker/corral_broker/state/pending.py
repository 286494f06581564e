"""Commands on their way: what was sent to which guest for whom, the guest's credits, and when the broker answers in the guest's place.

A guest's credits are taken when a command is sent to it and given back by its answer or by the end of its session, never by a deadline: a
stopped guest that is sent more than its credits would run all of it when it goes on.
"""

import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field

from corral_broker.state.deadlines import DeadlineWheel
from corral_broker.state.ports import Opaque
from corral_broker.state.shares import KeyShares
from corral_schemas.limits import DEADLINE_GRACE_S, IN_FLIGHT_PER_GUEST_MAX, WAITS_PER_GUEST_MAX

IN_FLIGHT_BYTES_PER_GUEST_MAX = 64 << 20
"""Bytes of arguments sent to a guest and not yet answered, whatever the number of commands."""

UPLOAD_LOOKED_AT_BYTES = 256

GIVEN_UP_KEPT_MAX = 2 * (IN_FLIGHT_PER_GUEST_MAX + WAITS_PER_GUEST_MAX)
"""Commands of one guest, given up with a connection of it, of which it is remembered that they may still be answered."""

_pack_ref = struct.Struct(">Q").pack


@dataclass(slots=True, eq=False)
class Pending:
    """One command sent to a guest."""

    ref: bytes
    client: bytes
    """Routing id of the client's connection."""
    request_id: str
    guest: str
    long_poll: bool
    bulk: bool
    args_bytes: int
    fingerprint: tuple[str, str, int, int]
    """Guest, op, size and CRC-32 of the arguments: what makes a repeat a repeat."""
    due_s: float
    """When the broker answers deadline_exceeded."""
    key: str = ""
    """Of the client; empty without keys."""
    answered: bool = False
    """The client has its answer (deadline_exceeded); the credit is still taken."""
    tick: int = 0


@dataclass(slots=True)
class Credits:
    """What one guest has in flight."""

    in_flight: int = 0
    waits: int = 0
    args_bytes: int = 0
    by_ref: dict[bytes, Pending] = field(default_factory=dict)
    given_up: dict[bytes, None] = field(default_factory=dict)
    """Refs whose session ended before their answer: the guest may answer them still, over another one."""
    shares: KeyShares = field(default_factory=KeyShares)


def fingerprint(guest: str, op: str, args: Opaque, *, upload: bool = False) -> tuple[str, str, int, int]:
    """upload: of arguments full of bytes only the beginning, which names what they are part of, is looked at."""
    return guest, op, len(args), zlib.crc32(memoryview(args)[:UPLOAD_LOOKED_AT_BYTES] if upload else args)


class PendingTable:
    """Every command sent and not yet answered by its guest."""

    def __init__(self, first_ref: int) -> None:
        """`first_ref` is random, so that an answer to an earlier broker's command matches nothing here."""
        self._next_ref = first_ref & (1 << 63) - 1
        self._wheel: DeadlineWheel[Pending] = DeadlineWheel()
        self._by_key: Counter[str] = Counter()  # client's key -> commands sent and not yet answered by their guests
        self._by_request: dict[tuple[bytes, str], Pending] = {}  # (client, request id) -> the one that is not answered yet

    def __len__(self) -> int:
        return len(self._by_request)

    def refusal(self, credits: Credits, long_poll: bool, args_bytes: int) -> str:
        """Why the guest can be sent nothing more now; empty when it can."""
        if long_poll and credits.waits >= WAITS_PER_GUEST_MAX:
            return f"{credits.waits} long polls in flight"
        if not long_poll and credits.in_flight >= IN_FLIGHT_PER_GUEST_MAX:
            return f"{credits.in_flight} commands in flight"
        if credits.args_bytes and credits.args_bytes + args_bytes > IN_FLIGHT_BYTES_PER_GUEST_MAX:
            return f"{credits.args_bytes} bytes of commands in flight"
        return ""

    def repeat_of(self, client: bytes, request_id: str) -> Pending | None:
        """The unanswered command this client has sent under this request id."""
        return self._by_request.get((client, request_id))

    def add(
        self,
        credits: Credits,
        client: bytes,
        request_id: str,
        deadline_s: float,
        print_: tuple[str, str, int, int],
        *,
        long_poll: bool,
        bulk: bool,
        key: str,
        now_s: float,
    ) -> Pending:
        """Takes a credit and sets the deadline's timer."""
        self._next_ref += 1
        ref = _pack_ref(self._next_ref)
        due_s = deadline_s + DEADLINE_GRACE_S / 2
        pending = Pending(ref, client, request_id, print_[0], long_poll, bulk, print_[2], print_, due_s, key)
        if key:
            self._by_key[key] += 1
        credits.by_ref[ref] = pending
        credits.shares.add(key, ref, long_poll, now_s)
        credits.args_bytes += pending.args_bytes
        if long_poll:
            credits.waits += 1
        else:
            credits.in_flight += 1
        self._by_request[client, request_id] = pending
        self._wheel.add(pending, due_s)
        return pending

    def in_flight_of(self, key: str) -> int:
        """Commands of this key sent and not yet answered by their guests."""
        return self._by_key.get(key, 0)

    def extend(self, pending: Pending, deadline_s: float) -> None:
        """A repeat may state a later deadline than the first."""
        due_s = deadline_s + DEADLINE_GRACE_S / 2
        if due_s > pending.due_s:
            self._wheel.remove(pending)
            pending.due_s = due_s
            self._wheel.add(pending, due_s)

    def finish(self, credits: Credits, pending: Pending) -> None:
        """Gives the credit back: the guest has answered, or its session is over."""
        del credits.by_ref[pending.ref]
        credits.shares.finish(pending.key, pending.ref, pending.long_poll)
        if pending.key:
            self._by_key[pending.key] -= 1
            if not self._by_key[pending.key]:
                del self._by_key[pending.key]
        credits.args_bytes -= pending.args_bytes
        if pending.long_poll:
            credits.waits -= 1
        else:
            credits.in_flight -= 1
        self._forget_request(pending)
        self._wheel.remove(pending)

    def give_up(self, credits: Credits, pending: Pending) -> None:
        """The session it was to be answered over is gone: it is over here, and its answer, if it comes, is late."""
        self.finish(credits, pending)
        credits.given_up[pending.ref] = None
        if len(credits.given_up) > GIVEN_UP_KEPT_MAX:
            del credits.given_up[next(iter(credits.given_up))]

    def pop_overdue(self, now_s: float) -> list[Pending]:
        """Commands whose deadline has passed, now marked as answered; their credits stay taken."""
        overdue = self._wheel.pop_due(now_s)
        for pending in overdue:
            pending.answered = True
            self._forget_request(pending)
        return overdue

    def next_due_s(self) -> float | None:
        return self._wheel.next_due_s()

    def _forget_request(self, pending: Pending) -> None:
        key = (pending.client, pending.request_id)
        if self._by_request.get(key) is pending:
            del self._by_request[key]
