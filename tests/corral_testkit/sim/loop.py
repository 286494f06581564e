"""An event loop whose time is virtual and whose order is the same in every run."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any

from corral_testkit.sim.process import RUNNING, Process

TURNS_MAX = 600_000
"""Callbacks of one run beyond which something goes round in circles."""


class SimTask(asyncio.Task[Any]):
    """Its place in a set does not depend on where it lies in memory."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[Any]):
    """See SimTask."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class SimHandle:
    """A callback that is due, or will be."""

    __slots__ = ("_args", "_callback", "_cancelled", "_when", "context")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context, when_s: float) -> None:
        self._callback, self._args, self._when = callback, args, when_s
        self.context = context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = _nothing, ()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


def _nothing() -> None: ...


class LivelockError(SystemExit):
    """The simulation did too much without coming to its end. Of this kind, because tasks let nothing else through."""


class SimLoop:
    """What asyncio needs of a loop without descriptors. `call_soon_threadsafe` and executors run here as well: there is one thread."""

    def __init__(self, executor_delay_s: Callable[[], float], turns_max: int = TURNS_MAX) -> None:
        self._turns_max = turns_max
        self._now_s = 1_000.0
        self._executor_delay_s = executor_delay_s
        self._ready: deque[SimHandle] = deque()
        self._timers: list[tuple[float, int, SimHandle]] = []
        self._numbers = 0
        self._parked: dict[Process, list[SimHandle]] = defaultdict(list)
        self.tasks: list[SimTask] = []
        self._thread_free_s: dict[Any, float] = {}  # executor of one thread -> when its last work is done
        self.turns = 0
        self.on_exception: Callable[[dict[str, Any]], None] = lambda context: None

    # -- running ---------------------------------------------------------------------------------------------------------------

    def run_until(self, done: Callable[[], bool] | None, until_s: float) -> None:
        """Runs until `done` (asked whenever time is about to go on), or until virtual time `until_s`. Raises LivelockError.

        Written for speed: every callback of every seed goes through here.
        """
        ready, timers, parked, running, pop = self._ready, self._timers, self._parked, RUNNING, heapq.heappop
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        turns, turns_max = self.turns, self._turns_max
        try:
            while True:
                while ready:
                    handle = ready.popleft()
                    if handle._cancelled:
                        continue
                    turns += 1
                    if turns > turns_max:
                        raise LivelockError(f"{turns} callbacks by {self._now_s:.3f} s")
                    context = handle.context
                    process = context.get(running)
                    if process is not None:
                        if not process.alive:
                            continue
                        if process.frozen:
                            parked[process].append(handle)
                            continue
                    try:
                        context.run(handle._callback, *handle._args)
                    except Exception as bug:  # noqa: BLE001 - as every event loop does
                        self.call_exception_handler({"message": "callback failed", "exception": bug})
                if done is not None and done():
                    return
                while timers and timers[0][2]._cancelled:
                    pop(timers)
                if not timers or timers[0][0] > until_s:
                    self._now_s = max(self._now_s, until_s)
                    return
                when_s, _, handle = pop(timers)
                if when_s > self._now_s:
                    self._now_s = when_s
                ready.append(handle)
                while timers and timers[0][0] <= self._now_s:
                    ready.append(pop(timers)[2])
        finally:
            self.turns = turns
            asyncio._set_running_loop(None)

    def unpark(self, process: Process) -> None:
        self._ready.extend(self._parked.pop(process, []))

    def forget_parked(self, process: Process) -> None:
        self._parked.pop(process, None)

    def dismantle(self) -> None:
        """Ends every task there is, so that none is found pending when it is collected."""
        self._ready.clear()
        self._timers.clear()
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                try:
                    task.get_coro().close()
                except (RuntimeError, Exception):  # noqa: BLE001 - it awaits in its clean-up, or fails there: its process is dead
                    continue
        self.tasks.clear()
        self._thread_free_s.clear()
        self._ready.clear()
        self._timers.clear()

    # -- what asyncio calls -------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        future = SimFuture(loop=self)  # type: ignore[arg-type]
        future.number = self._next_number()
        return future

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        number = self._next_number()
        SimTask.number = number  # a task is hashed while it is being made
        task = SimTask(coro, loop=self, name=name or "task", context=context)  # type: ignore[arg-type]
        task.number = number
        self.tasks.append(task)
        if len(self.tasks) > 2_000:
            self.tasks = [one for one in self.tasks if not one.done()]
        return task

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = SimHandle(callback, args, contextvars.copy_context() if context is None else context, self._now_s)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = SimHandle(callback, args, contextvars.copy_context() if context is None else context, when)
        number = self._numbers = self._numbers + 1
        heapq.heappush(self._timers, (when, number, handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> Any:
        when = self._now_s + delay  # the rest as in call_at: this is called most
        handle = SimHandle(callback, args, contextvars.copy_context() if context is None else context, when)
        number = self._numbers = self._numbers + 1
        heapq.heappush(self._timers, (when, number, handle))
        return handle

    def _timer_handle_cancelled(self, handle: Any) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """One thread does its work in the order in which it was given."""
        future = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as failure:  # noqa: BLE001 - it goes to whoever awaits it
                future.set_exception(failure)

        when_s = self._now_s + self._executor_delay_s()
        if getattr(executor, "_max_workers", 0) == 1:
            when_s = self._thread_free_s[executor] = max(when_s, self._thread_free_s.get(executor, 0.0))
        self.call_at(when_s, work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.on_exception(context)
