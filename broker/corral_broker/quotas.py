"""How much one key may ask: commands (of a guest: events) a second, and commands in flight.

What is too much is refused, and whoever goes on all the same is turned away: a refusal costs the broker nearly as much as a command, and a
broker that is busy all the time is slow for everybody, in whatever order it serves.
"""

from dataclasses import dataclass

from corral_broker.keyring import Grant
from corral_schemas.errors import CorralError, error

RATE_PER_KEY_MAX = 4_000
"""Commands a second of one key, where its file does not say otherwise: a fraction of what a broker can serve, so that a few
keys that ask for all they may leave the others theirs."""
IN_FLIGHT_PER_KEY_MAX = 50_000
"""Commands of one key sent to guests and not yet answered, where its file does not say otherwise."""
BURST_S = 1.0
"""A key that was silent so long may ask for as much at once."""
TOLERATED_S, TOLERATED_MIN = 1.0, 1_000
"""So many seconds' worth of refusals, and at least so many in number, are borne; a key with more has its connections cut. They are
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


class Quotas:
    """One bucket per accepted key."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}  # public key -> its bucket; as many as keys were ever accepted
        self._flooding: list[str] = []  # keys turned away since take_flooding

    def refusal(self, key: str, grant: Grant, in_flight: int, now_s: float) -> CorralError | None:
        """Why this command is one too many; None when it is not, and it is counted then."""
        bucket = self._bucket(key, grant, now_s)
        in_flight_max = grant.in_flight_max or IN_FLIGHT_PER_KEY_MAX
        if in_flight >= in_flight_max:
            self._exceeds(key, bucket, grant, now_s)
            return error("guest_busy", f"key {grant.name} has {in_flight} commands in flight", limit=in_flight_max, sent=False)
        if bucket.left < 1:
            self._exceeds(key, bucket, grant, now_s)
            rate_per_s = _rate_per_s(grant)
            return error("guest_busy", f"key {grant.name} sends more than {rate_per_s} commands a second", limit=rate_per_s, sent=False)
        bucket.left -= 1
        return None

    def event_passes(self, key: str, grant: Grant, now_s: float) -> bool:
        """False when this event of a guest is one too many."""
        bucket = self._bucket(key, grant, now_s)
        if bucket.left < 1:
            self._exceeds(key, bucket, grant, now_s)
            return False
        bucket.left -= 1
        return True

    def is_away(self, key: str, now_s: float) -> bool:
        """The key is turned away, and whatever of it is still under way is dropped."""
        bucket = self._buckets.get(key)
        return bucket is not None and now_s < bucket.away_until_s

    def take_flooding(self) -> list[tuple[str, float]]:
        """Keys whose connections are to be cut now, and how many seconds they are turned away; each is given once."""
        taken, self._flooding = self._flooding, []
        return [(key, self._buckets[key].away_s) for key in taken]

    def to_say(self, key: str, now_s: float) -> int:
        """How many refusals of this key, the present one included, are to be said now; 0 when it is not yet time again."""
        bucket = self._buckets[key]
        bucket.unsaid += 1
        if now_s < bucket.say_next_s:
            return 0
        count, bucket.unsaid = bucket.unsaid, 0
        bucket.say_next_s = now_s + SAY_INTERVAL_S
        return count

    def _bucket(self, key: str, grant: Grant, now_s: float) -> Bucket:
        """Filled up to now."""
        rate_per_s = _rate_per_s(grant)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(rate_per_s * BURST_S, now_s)
        most = max(1.0, rate_per_s * BURST_S * bucket.share(now_s))
        earned = max(0.0, now_s - bucket.at_s) * rate_per_s  # nothing while it is turned away
        bucket.left = min(most, bucket.left + earned)
        bucket.excess = max(0.0, bucket.excess - earned)
        bucket.at_s = max(bucket.at_s, now_s)
        return bucket

    def _exceeds(self, key: str, bucket: Bucket, grant: Grant, now_s: float) -> None:
        bucket.excess += 1
        if bucket.excess <= max(TOLERATED_MIN, TOLERATED_S * _rate_per_s(grant)) * bucket.share(now_s) or now_s < bucket.away_until_s:
            return
        again = bucket.share(now_s) < 1
        bucket.away_s = min(AWAY_S_MAX, 2 * bucket.away_s) if again else AWAY_S_MIN
        bucket.away_until_s = bucket.at_s = now_s + bucket.away_s
        bucket.excess = 0.0
        self._flooding.append(key)


def _rate_per_s(grant: Grant) -> int:
    return grant.rate_per_s or RATE_PER_KEY_MAX
