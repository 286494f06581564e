"""Many deadlines, most of which are withdrawn long before they pass: buckets of TICK_S, so that both cost next to nothing."""

import heapq
from typing import Generic, Protocol, TypeVar

TICK_S = 0.01
"""How much later than asked an entry may come out."""


class HasTick(Protocol):
    """What the wheel keeps: it writes the bucket's number into the entry, to find it again."""

    tick: int


E = TypeVar("E", bound=HasTick)


class DeadlineWheel(Generic[E]):
    """Entries by the time they are due; each entry is in the wheel at most once."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, E]] = {}  # tick -> id(entry) -> entry
        self._ticks: list[int] = []  # heap of the keys of _buckets, and of a few emptied since

    def add(self, entry: E, due_s: float) -> None:
        tick = int(due_s / TICK_S) + 1
        entry.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._ticks, tick)
        bucket[id(entry)] = entry

    def remove(self, entry: E) -> None:
        """Withdraws an entry; one that has come out already is no error."""
        bucket = self._buckets.get(entry.tick)
        if bucket is not None:
            bucket.pop(id(entry), None)

    def next_due_s(self) -> float | None:
        """When pop_due has something next; None while the wheel is empty."""
        while self._ticks:
            tick = self._ticks[0]
            if self._buckets[tick]:
                return tick * TICK_S
            heapq.heappop(self._ticks)
            del self._buckets[tick]
        return None

    def pop_due(self, now_s: float) -> list[E]:
        """Takes out every entry that is due, earliest first."""
        due: list[E] = []
        while self._ticks and self._ticks[0] * TICK_S <= now_s:
            due.extend(self._buckets.pop(heapq.heappop(self._ticks)).values())
        return due
