"""How long to wait between looks at a spool that its shim calls grown and that has nothing new.

A stream's end may be told before its record is in the journal; and what a full disk does not take is known to the shim, but not in the
spool until a gap is announced. Whoever looked again at once would do nothing else.
"""

EMPTY_LOOK_S, EMPTY_LOOK_S_MAX = 0.01, 0.25


class ReadBackoff:
    """Of one reader, from the last bytes it found on."""

    def __init__(self) -> None:
        self._pause_s = 0.0

    def pause_s(self, waited_s: float) -> float:
        """Seconds until the next look, when growth was told `waited_s` after the last one: none the first time, longer each time."""
        pause_s, told_at_once = self._pause_s, waited_s < EMPTY_LOOK_S
        self._pause_s = min(2 * pause_s, EMPTY_LOOK_S_MAX) if pause_s and told_at_once else EMPTY_LOOK_S
        return pause_s
