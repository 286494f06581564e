"""Whose turn it is: ordered commands of one container one after the other, runtime calls of all containers a few at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral_schemas.errors import error


class Turns:
    """Locks by container name, and slots for runtime calls (more at once than cores can run only slow each other down)."""

    def __init__(self, slots: int) -> None:
        self.running = 0
        """Runtime calls running now."""
        self.waiting = 0
        """Commands waiting for a slot."""
        self._slots = asyncio.Semaphore(slots)
        self._locks: dict[str, asyncio.Lock] = {}  # name -> who may change the container now; waiters get it in order of arrival
        self._users: Counter[str] = Counter()  # name -> commands that hold or await its lock

    @asynccontextmanager
    async def ordered(self, name: str, deadline_s: float | None) -> AsyncIterator[None]:
        """One ordered command per container at a time, in order of arrival. Raises deadline_exceeded if its turn does not come in time."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] += 1
        try:
            await _acquire(lock, deadline_s, "other commands on this container took until the deadline; this one was not begun")
            try:
                yield
            finally:
                lock.release()
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]

    @asynccontextmanager
    async def runtime_slot(self, deadline_s: float | None) -> AsyncIterator[None]:
        """A place among the runtime calls that may run at once. Raises deadline_exceeded if there is none in time."""
        self.waiting += 1
        try:
            await _acquire(self._slots, deadline_s, "the guest was busy until the deadline; the command was not begun")
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()


async def _acquire(what: asyncio.Lock | asyncio.Semaphore, deadline_s: float | None, too_late: str) -> None:
    try:
        async with asyncio.timeout_at(deadline_s):
            await what.acquire()
    except TimeoutError:
        raise error("deadline_exceeded", too_late) from None
