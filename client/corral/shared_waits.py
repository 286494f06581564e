"""Many who wait for one process, in one client: they share one wait, and so one poll at its guest."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from corral_schemas.errors import CorralError
from corral_schemas.exits import Exit


@dataclass
class _Wait:
    task: "asyncio.Task[Exit | CorralError]"
    callers: int = 0


class SharedWaits:
    """Of one connection. A wait is given up when the last of its callers is cancelled."""

    def __init__(self) -> None:
        self._waits: dict[tuple[str, str], _Wait] = {}  # (guest, process instance, or container instance for its init)

    async def join(self, guest: str, instance: str, begin: Callable[[], Coroutine[Any, Any, Exit]]) -> Exit:
        """Return what `begin` gives; it is called where nobody waits for this process yet. Raises what it raises."""
        key = guest, instance
        wait = self._waits.get(key)
        if wait is None:
            wait = self._waits[key] = _Wait(asyncio.get_running_loop().create_task(_outcome(begin())))
            wait.task.add_done_callback(lambda done: self._forget(key, done))
        wait.callers += 1
        try:
            outcome = await asyncio.shield(wait.task)
        finally:
            wait.callers -= 1
            if not wait.callers and not wait.task.done():
                wait.task.cancel()
                self._forget(key, wait.task)  # who comes now begins anew
        if isinstance(outcome, CorralError):
            raise type(outcome)(outcome.code, outcome.message, dict(outcome.details))
        return outcome

    def _forget(self, key: tuple[str, str], task: "asyncio.Task[Exit | CorralError]") -> None:
        wait = self._waits.get(key)
        if wait is not None and wait.task is task:
            del self._waits[key]


async def _outcome(begun: Coroutine[Any, Any, Exit]) -> "Exit | CorralError":
    """Return an error as a value, since each caller raises one of its own."""
    try:
        return await begun
    except CorralError as why:
        return why
