"""The guest names closest to one that does not exist, at a cost that does not grow with the number of guests."""

import difflib
from bisect import bisect_left
from collections.abc import Iterable

NEIGHBOURS = 16
"""Names looked at on each side of where the wanted one would stand in order."""
NEAREST_MAX = 3


class NearestNames:
    """Compares only with neighbours in the order of names read forwards (errors near the end) and backwards (near the beginning)."""

    def __init__(self) -> None:
        self._version = -1
        self._forwards: list[str] = []
        self._backwards: list[str] = []

    def find(self, wanted: str, names: Iterable[str], version: int) -> list[str]:
        """Up to NEAREST_MAX names, closest first. `version` tells whether `names` changed since the last call."""
        if version != self._version:
            self._forwards = sorted(names)
            self._backwards = sorted(name[::-1] for name in self._forwards)
            self._version = version
        near = set(_around(self._forwards, wanted)) | {name[::-1] for name in _around(self._backwards, wanted[::-1])}
        return difflib.get_close_matches(wanted, sorted(near), n=NEAREST_MAX, cutoff=0.6)


def _around(ordered: list[str], wanted: str) -> list[str]:
    at = bisect_left(ordered, wanted)
    return ordered[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]
