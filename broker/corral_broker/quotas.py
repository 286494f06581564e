"""How much one key may ask: commands a second, and commands in flight."""

from dataclasses import dataclass

from corral_broker.keyring import Grant
from corral_schemas.errors import CorralError, error

RATE_PER_KEY_MAX = 20_000
"""Commands a second of one key, where its file does not say otherwise."""
IN_FLIGHT_PER_KEY_MAX = 50_000
"""Commands of one key sent to guests and not yet answered, where its file does not say otherwise."""
BURST_S = 2.0
"""A key that was silent so long may ask for as many seconds' worth at once."""


@dataclass(slots=True)
class Bucket:
    """Commands a key may still send now."""

    left: float
    at_s: float


class Quotas:
    """One bucket per accepted key."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}  # public key -> its bucket; as many as keys were ever accepted

    def refusal(self, key: str, grant: Grant, in_flight: int, now_s: float) -> CorralError | None:
        """Why this command is one too many; None when it is not, and it is counted then."""
        in_flight_max = grant.in_flight_max or IN_FLIGHT_PER_KEY_MAX
        if in_flight >= in_flight_max:
            return error("guest_busy", f"key {grant.name} has {in_flight} commands in flight", limit=in_flight_max, sent=False)
        rate_per_s = grant.rate_per_s or RATE_PER_KEY_MAX
        most = rate_per_s * BURST_S
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(most, now_s)
        bucket.left = min(most, bucket.left + (now_s - bucket.at_s) * rate_per_s)
        bucket.at_s = now_s
        if bucket.left < 1:
            return error("guest_busy", f"key {grant.name} sends more than {rate_per_s} commands a second", limit=rate_per_s, sent=False)
        bucket.left -= 1
        return None
