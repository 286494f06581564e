"""What of one guest's credits one key may take, so that whoever asks next is served and does not wait for what another has piled up.

A command that is answered at once takes the guest's time; one that is under way for long waits for something else (a container that is
made, say). So while several keys ask one guest, only a key's young commands count: a few at a time, however many there have been.
"""

from dataclasses import dataclass, field

from corral_schemas.limits import IN_FLIGHT_PER_GUEST_MAX, WAITS_PER_GUEST_MAX

RESERVED, RESERVED_WAITS = IN_FLIGHT_PER_GUEST_MAX // 8, WAITS_PER_GUEST_MAX // 8
"""Of a guest's commands, and long polls, in flight: no one key takes these, also while it is the only one."""
CONTENDED_S = 1.0
"""A guest that two keys have asked is shared for so long after the last time that they took turns."""
YOUNG_MAX = 16
"""Commands of one key that a guest which is shared has not answered, of those it was sent in the last YOUNG_S."""
YOUNG_S = 0.05


@dataclass(slots=True)
class Taken:
    """What one key has in flight at one guest."""

    in_flight: int = 0
    waits: int = 0
    young: dict[bytes, float] = field(default_factory=dict)
    """ref -> when it was sent; oldest first, and those beyond YOUNG_S are let go of when it is asked."""


class KeyShares:
    """One guest's. Keys that have nothing in flight take no room."""

    def __init__(self) -> None:
        self._by_key: dict[str, Taken] = {}
        self._last_key, self._last_s = "", float("-inf")  # who asked last, and when
        self._contended_until_s = float("-inf")

    def refusal(self, key: str, long_poll: bool, now_s: float) -> str:
        """Why this key has to wait; empty when it has not. Without keys ("") nobody can be told from anybody, and nobody waits."""
        if not key:
            return ""
        if key != self._last_key:
            if now_s - self._last_s < CONTENDED_S:
                self._contended_until_s = now_s + CONTENDED_S
            self._last_key = key
        self._last_s = now_s
        taken = self._by_key.get(key)
        if taken is None:
            return ""
        if long_poll:
            if taken.waits >= WAITS_PER_GUEST_MAX - RESERVED_WAITS:
                return f"this key has {taken.waits} long polls in flight there, the rest is for others"
            return ""
        if taken.in_flight >= IN_FLIGHT_PER_GUEST_MAX - RESERVED:
            return f"this key has {taken.in_flight} commands in flight there, the rest is for others; send fewer at once"
        if now_s < self._contended_until_s and len(taken.young) >= YOUNG_MAX and _young(taken, now_s) >= YOUNG_MAX:
            return f"others ask it too, and this key has sent it {YOUNG_MAX} commands just now; send fewer at once, or again after a moment"
        return ""

    def add(self, key: str, ref: bytes, long_poll: bool, now_s: float) -> None:
        """A command is sent to the guest."""
        if not key:
            return
        taken = self._by_key.get(key)
        if taken is None:
            taken = self._by_key[key] = Taken()
        if long_poll:
            taken.waits += 1
        else:
            taken.in_flight += 1
            taken.young[ref] = now_s

    def finish(self, key: str, ref: bytes, long_poll: bool) -> None:
        """It is answered, or the guest's session is over."""
        taken = self._by_key.get(key)
        if taken is None:
            return
        if long_poll:
            taken.waits -= 1
        else:
            taken.in_flight -= 1
            taken.young.pop(ref, None)
        if not taken.in_flight and not taken.waits:
            del self._by_key[key]


def _young(taken: Taken, now_s: float) -> int:
    while taken.young:
        ref, sent_s = next(iter(taken.young.items()))
        if now_s - sent_s < YOUNG_S:
            break
        del taken.young[ref]
    return len(taken.young)
