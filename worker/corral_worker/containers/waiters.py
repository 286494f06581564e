"""Who waits for what: exits, ends of streams, the next event. All are told after the record is appended, and look for themselves."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from corral_worker.journal.journal import Journal
from corral_worker.journal.records import ProcessRecord

Future = asyncio.Future[None]


class Waiters:
    """Futures by process, and those for the next event."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._by_process: dict[str, dict[Future, None]] = defaultdict(dict)  # process instance -> who waits for a change of it
        self._for_event: dict[Future, None] = {}  # likewise for the next event; both are sets that keep their order

    async def ended(self, process: ProcessRecord) -> None:
        """Returns once the process's exit is recorded; it may not be on disk yet."""
        while process.exit is None:
            await self.changed(process)

    async def exited(self, process: ProcessRecord) -> None:
        """Returns once the process's exit is on disk."""
        await self.ended(process)
        await self._journal.durable()

    async def changed(self, process: ProcessRecord) -> None:
        """Returns at the process's exit, when one of its streams ends after it, and for init when its container is paused or resumed."""
        future: Future = asyncio.get_running_loop().create_future()
        self._by_process[process.instance][future] = None
        try:
            await future
        finally:
            waiting = self._by_process.get(process.instance, {})
            waiting.pop(future, None)
            if not waiting:
                self._by_process.pop(process.instance, None)

    def tell_changed(self, process: ProcessRecord) -> None:
        """The exit, the end of a stream, or the container's pause or resume is recorded."""
        _wake(self._by_process.pop(process.instance, {}))

    async def event_beyond(self, seq: int, timeout_s: float) -> None:
        """Returns when an event above seq is durable, or after the time."""
        if self._journal.durable_seq > seq:
            return
        future: Future = asyncio.get_running_loop().create_future()
        self._for_event[future] = None
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            future.cancel()
            self._for_event.pop(future, None)

    def tell_event(self) -> None:
        """An event is durable."""
        waiting, self._for_event = self._for_event, {}
        _wake(waiting)


def _wake(waiting: Iterable[Future]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
