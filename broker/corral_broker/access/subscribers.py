"""How much one key may subscribe to: libzmq keeps every subscription in memory, byte by byte, for as long as its connection stands."""

from collections import Counter

SUBSCRIBED_BYTES_PER_KEY_MAX = 1 << 20
"""Prefixes of all connections of one key. Some 20,000 of usual length; libzmq needs up to 60 bytes for each byte of them."""
SUBSCRIBE = b"\x01"


class Subscribers:
    """Bytes subscribed to, by connection and by key."""

    def __init__(self) -> None:
        self._by_connection: dict[str, tuple[str, int]] = {}  # descriptor -> its key, bytes
        self._by_key: Counter[str] = Counter()

    def changed(self, descriptor: str, key: str, frame: bytes) -> bool:
        """Takes a subscription, or the end of one, in. True when the key has too much now."""
        change = len(frame) if frame[:1] == SUBSCRIBE else -len(frame)
        before_key, before = self._by_connection.get(descriptor, (key, 0))
        if before_key != key:  # the descriptor is another connection's now
            self.closed(descriptor)
            before = 0
        after = max(0, before + change)
        self._by_connection[descriptor] = (key, after)
        self._by_key[key] += after - before
        return self._by_key[key] > SUBSCRIBED_BYTES_PER_KEY_MAX

    def closed(self, descriptor: str) -> None:
        """The connection is no more, and libzmq has let go of what it was subscribed to."""
        key, bytes_ = self._by_connection.pop(descriptor, ("", 0))
        self._by_key[key] -= bytes_
        if self._by_key[key] <= 0:
            del self._by_key[key]
