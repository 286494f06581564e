"""A simulated operating-system process: what runs in its context ends with it, and stands still while it is frozen."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corral_testkit.sim.loop import SimLoop

RUNNING: contextvars.ContextVar[Process] = contextvars.ContextVar("simulated_process")
"""The process on whose behalf the code runs; the loop asks every callback's context for it."""


class Host:
    """A machine: it has a wall clock, and can be cut off from other machines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wall_offset_ns = 0
        self.boot_id = f"boot-{name}-1"


class Process:
    """Callbacks and tasks started with `call_soon`, `call_later` or `spawn` belong to it, and whatever those start."""

    def __init__(self, loop: SimLoop, host: Host, name: str) -> None:
        self.loop, self.host, self.name = loop, host, name
        self.alive = True
        self.frozen = False
        self.on_death: list[Callable[[], None]] = []  # what the kernel does: closing sockets, telling parents
        self.context = contextvars.copy_context()
        """Of everything that runs on its behalf."""
        self.context.run(RUNNING.set, self)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """A task of this process."""
        return self.loop.create_task(coroutine, context=self.context.copy())

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.loop.call_soon(callback, *args, context=self.context)

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Any:
        return self.loop.call_later(delay_s, callback, *args, context=self.context)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, not even what would clean up."""
        if not self.alive:
            return
        self.alive = False
        self.loop.forget_parked(self)
        for told in self.on_death:
            told()
        self.on_death.clear()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: all that waited runs now."""
        if self.frozen:
            self.frozen = False
            self.loop.unpark(self)
