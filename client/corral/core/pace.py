"""How fast commands go out where the broker limits the key: whoever sends more is refused, and who goes on all the same is cut. No I/O."""

AT_ONCE_S = 0.5
"""So many seconds' worth may go at once: half of what a broker takes, since other programs may use the same key."""
SHARE = 0.9
"""Of the rate: a clock here may run a little faster than the broker's."""


class Pace:
    """Places in time, one for each copy of a command sent to one broker (the generic cell rate algorithm, ITU-T I.371)."""

    def __init__(self) -> None:
        self.rate_per_s = 0
        """What hello said; 0: no limit."""
        self._taken_until_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Takes the next place; seconds until it comes, 0 when it is there."""
        if not self.rate_per_s:
            return 0.0
        interval_s = 1 / (SHARE * self.rate_per_s)
        self._taken_until_s = max(self._taken_until_s, now_s - max(AT_ONCE_S, interval_s)) + interval_s
        return max(0.0, self._taken_until_s - now_s)
