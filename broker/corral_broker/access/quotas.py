"""How much one key may send to each socket: commands a second and in flight; of a guest, events, and session messages that answer nothing.

What is too much is refused, and whoever goes on all the same is turned away: a refusal costs the broker nearly as much as a command, and a
broker that is busy all the time is slow for everybody, in whatever order it serves.
"""

from dataclasses import dataclass
from typing import NamedTuple

from corral_broker.access.keyring import Grant
from corral_broker.state.addresses import SocketName
from corral_schemas.errors import CorralError, error

RATE_PER_KEY_MAX = 4_000
"""Commands a second of one key, where its file does not say otherwise: a fraction of what a broker can serve, so that a few
keys that ask for all they may leave the others theirs."""
IN_FLIGHT_PER_KEY_MAX = 50_000
"""Commands of one key sent to guests and not yet answered, where its file does not say otherwise."""
BURST_S = 1.0
"""A key that was silent so long may ask for as much at once."""
GUEST_BURST_S = 0.25
"""Likewise a guest's events and session messages: nobody waits for an answer to them, and what is dropped of them is asked for again."""
TOLERATED_BURSTS, TOLERATED_MIN = 1.0, 1_000
"""So many bursts' worth of refusals, and at least so many in number, are borne; a key with more has its connections cut. They are
forgotten at the key's rate: up to twice its rate nobody is ever cut."""
AWAY_S_MIN, AWAY_S_MAX = 1.0, 30.0
"""How long a key is turned away: the first time, and after doubling each time that it floods again."""
FORGIVEN_S = 60.0
"""A key that was let in again and did not flood for so long begins anew."""
PROBATION = 0.1
"""Until then it has this share of a burst and of what is borne: on and off, a flood would else have its beginning again and again."""
SAY_INTERVAL_S = 1.0
"""Refusals of one key for its quota are said in log and audit log this often: a flood is not to fill them."""


@dataclass(slots=True)
class Bucket:
    """What a key may still send now, and how it stands with its refusals."""

    left: float
    at_s: float
    excess: float = 0.0
    """Refusals that are not forgotten yet."""
    away_s: float = 0.0
    """How long it was turned away the last time."""
    away_until_s: float = 0.0
    say_next_s: float = 0.0
    unsaid: int = 0
    """Refusals since the last one that was said."""

    def share(self, now_s: float) -> float:
        """Of a burst and of what is borne: PROBATION for a key that has flooded not long ago."""
        return PROBATION if self.away_s and now_s < self.away_until_s + FORGIVEN_S else 1.0


class Flooding(NamedTuple):
    """Who is to be cut from which socket, and for how long it is turned away there."""

    socket: SocketName
    key: str
    away_s: float


class Quotas:
    """One bucket for each accepted key and socket."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], Bucket] = {}  # (socket, public key) -> as many as keys were ever accepted, and thrice
        self._flooding: list[Flooding] = []  # turned away since take_flooding
        self._away_until_s = 0.0  # of the last key that will be let in again

    def refusal(self, key: str, grant: Grant, in_flight: int, now_s: float) -> CorralError | None:
        """Why this command is one too many; None when it is not, and it is counted then."""
        bucket = self._filled("clients", key, grant, now_s)
        in_flight_max = grant.in_flight_max or IN_FLIGHT_PER_KEY_MAX
        if in_flight >= in_flight_max:
            self._exceeds("clients", key, bucket, grant, now_s)
            return error("guest_busy", f"key {grant.name} has {in_flight} commands in flight", limit=in_flight_max, sent=False)
        if bucket.left < 1:
            self._exceeds("clients", key, bucket, grant, now_s)
            allowed = rate_per_s(grant)
            return error("guest_busy", f"key {grant.name} sends more than {allowed} commands a second", limit=allowed, sent=False)
        bucket.left -= 1
        return None

    def passes(self, socket: SocketName, key: str, grant: Grant, now_s: float, cost: float = 1.0) -> bool:
        """False when this event, or message of a session, is one too many. Of what costs 0.25, four are one."""
        bucket = self._filled(socket, key, grant, now_s)
        if bucket.left < cost:
            self._exceeds(socket, key, bucket, grant, now_s, cost)
            return False
        bucket.left -= cost
        return True

    def is_away(self, socket: str, key: str, now_s: float) -> bool:
        """The key is turned away from this socket, and whatever of it is still under way is dropped."""
        if now_s >= self._away_until_s:  # asked for every message
            return False
        bucket = self._buckets.get((socket, key))
        return bucket is not None and now_s < bucket.away_until_s

    def take_flooding(self) -> list[Flooding]:
        """Whose connections are to be cut now; each is given once."""
        taken, self._flooding = self._flooding, []
        return taken

    def to_say(self, key: str, now_s: float) -> int:
        """How many refused commands of this key, the present one included, are to be said now; 0 when it is not yet time again."""
        bucket = self._buckets["clients", key]
        bucket.unsaid += 1
        if now_s < bucket.say_next_s:
            return 0
        count, bucket.unsaid = bucket.unsaid, 0
        bucket.say_next_s = now_s + SAY_INTERVAL_S
        return count

    def _filled(self, socket: SocketName, key: str, grant: Grant, now_s: float) -> Bucket:
        """Its bucket, filled up to now."""
        earns_per_s, burst = rate_per_s(grant), _burst(socket, grant)
        bucket = self._buckets.get((socket, key))
        if bucket is None:
            bucket = self._buckets[socket, key] = Bucket(burst, now_s)
        earned = max(0.0, now_s - bucket.at_s) * earns_per_s  # nothing while it is turned away
        bucket.left = min(max(1.0, burst * bucket.share(now_s)), bucket.left + earned)
        bucket.excess = max(0.0, bucket.excess - earned)
        bucket.at_s = max(bucket.at_s, now_s)
        return bucket

    def _exceeds(self, socket: SocketName, key: str, bucket: Bucket, grant: Grant, now_s: float, cost: float = 1.0) -> None:
        bucket.excess += cost
        borne = max(TOLERATED_MIN, TOLERATED_BURSTS * _burst(socket, grant)) * bucket.share(now_s)
        if bucket.excess <= borne or now_s < bucket.away_until_s:
            return
        again = bucket.share(now_s) < 1
        bucket.away_s = min(AWAY_S_MAX, 2 * bucket.away_s) if again else AWAY_S_MIN
        bucket.away_until_s = bucket.at_s = now_s + bucket.away_s
        self._away_until_s = max(self._away_until_s, bucket.away_until_s)
        bucket.excess = 0.0
        self._flooding.append(Flooding(socket, key, bucket.away_s))


def rate_per_s(grant: Grant) -> int:
    """Commands a second that the key may send, and events, and session messages."""
    return grant.rate_per_s or RATE_PER_KEY_MAX


def _burst(socket: SocketName, grant: Grant) -> float:
    return rate_per_s(grant) * (BURST_S if socket == "clients" else GUEST_BURST_S)
