"""How often peers may connect, by the key that they show: new connections are the one thing that costs before anything is checked.

It also bounds what a known weakness of libzmq can be used for (SECURITY.md): the abort of a ROUTER needs a connection that claims the very
number which another connection is about to be given, so whoever tries it needs very many of both.
"""

from dataclasses import dataclass
from itertools import islice

from corral_broker.access.keyring import Grant

ADDRESSES_MAX = 4_096
"""Addresses of strangers remembered; while so many are at it, strangers from further ones are refused."""
LOOK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many at once, and so many a second afterwards."""

    burst: float
    per_s: float


STRANGERS = Allowance(256, 40)
"""All keys that are not accepted: together."""
STRANGERS_PER_ADDRESS = Allowance(96, 10)
PER_GUEST_KEY = Allowance(64, 10)
"""A worker has six connections."""
PER_KEY = Allowance(2_000, 400)
"""Operators, observers and policies: each command line is a connection or two."""


class Bucket:
    """What of an allowance is left."""

    def __init__(self, allowance: Allowance, now_s: float) -> None:
        self._allowance, self._left, self._at_s = allowance, allowance.burst, now_s

    def take(self, now_s: float) -> bool:
        """False when nothing is left."""
        self._fill(now_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def is_full(self, now_s: float) -> bool:
        """As good as new: nobody has connected for a while."""
        self._fill(now_s)
        return self._left >= self._allowance.burst

    def _fill(self, now_s: float) -> None:
        self._left = min(self._allowance.burst, self._left + (now_s - self._at_s) * self._allowance.per_s)
        self._at_s = now_s


class Handshakes:
    """A bucket each for every accepted key, for every address of strangers, and for all strangers."""

    def __init__(self) -> None:
        self._keys: dict[str, Bucket] = {}  # as many as keys were ever accepted
        self._addresses: dict[str, Bucket] = {}
        self._strangers = Bucket(STRANGERS, 0.0)
        self._look_again_s = 0.0  # when it is worth while to look which addresses may be forgotten

    def refusal(self, key: str, address: str, grant: Grant | None, now_s: float) -> str:
        """Why this connection is one too many; empty when it is not, and it is counted then."""
        if grant is not None:
            allowance = PER_GUEST_KEY if grant.role == "guest" else PER_KEY
            bucket = self._keys.get(key)
            if bucket is None:
                bucket = self._keys[key] = Bucket(allowance, now_s)
            return "" if bucket.take(now_s) else f"key {grant.name} connects more than {allowance.per_s:g} times a second"
        bucket = self._of_address(address, now_s)
        if bucket is None or not bucket.take(now_s):
            return f"unknown keys from one address connect more than {STRANGERS_PER_ADDRESS.per_s:g} times a second"
        return "" if self._strangers.take(now_s) else f"unknown keys connect more than {STRANGERS.per_s:g} times a second"

    def _of_address(self, address: str, now_s: float) -> Bucket | None:
        bucket = self._addresses.get(address)
        if bucket is None:
            if len(self._addresses) >= ADDRESSES_MAX and now_s >= self._look_again_s:
                self._look_again_s = now_s + LOOK_INTERVAL_S
                self._addresses = {name: one for name, one in self._addresses.items() if not one.is_full(now_s)}
            if len(self._addresses) < ADDRESSES_MAX:
                bucket = self._addresses[address] = Bucket(STRANGERS_PER_ADDRESS, now_s)
        return bucket


PENDING_MAX = 4_096
"""Connections whose handshake is not through: together; one that is through is so within milliseconds."""
PENDING_PER_ADDRESS_MAX = 512


class PendingHandshakes:
    """Connections that have been accepted and have not shown their key yet, oldest first: whoever stalls is cut, not whoever comes."""

    def __init__(self) -> None:
        self._all: dict[int, str] = {}  # descriptor -> address of the peer
        self._by_address: dict[str, dict[int, None]] = {}  # address -> its descriptors
        self._crowded: set[str] = set()  # addresses that may have too many

    def begun(self, descriptor: int, address: str) -> None:
        """A connection was accepted."""
        self.ended(descriptor)
        self._all[descriptor] = address
        mates = self._by_address.setdefault(address, {})
        mates[descriptor] = None
        if len(mates) > PENDING_PER_ADDRESS_MAX:
            self._crowded.add(address)

    def ended(self, descriptor: int) -> None:
        """Its handshake is through, or it is closed."""
        address = self._all.pop(descriptor, None)
        if address is None:
            return
        mates = self._by_address[address]
        del mates[descriptor]
        if not mates:
            del self._by_address[address]

    def take_stalled(self) -> list[tuple[int, str]]:
        """(descriptor, address) of those to be cut; to be asked when all is known that has begun and ended by now."""
        stalled: list[tuple[int, str]] = []
        for address in self._crowded:
            mates = self._by_address.get(address, {})
            stalled += [(one, address) for one in islice(mates, max(0, len(mates) - PENDING_PER_ADDRESS_MAX))]
        self._crowded.clear()
        for descriptor, _ in stalled:
            self.ended(descriptor)
        oldest = list(islice(self._all.items(), max(0, len(self._all) - PENDING_MAX)))
        for descriptor, _ in oldest:
            self.ended(descriptor)
        return stalled + oldest

    def __len__(self) -> int:
        return len(self._all)
