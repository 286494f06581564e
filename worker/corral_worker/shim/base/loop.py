"""One thread, one epoll: descriptors, timers and SIGCHLD, each calling back."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import signal
import time
from collections.abc import Callable

from corral_worker.shim.base.linux import log_exception

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
PRIORITY = select.EPOLLPRI
# Longest single wait: epoll counts milliseconds in a C int, so that a wait for a timer 25 days ahead would raise.
WAIT_S_MAX = 3600.0


class Timer:
    """Calls once, unless cancelled before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Never call."""
        self.callback = None


class Loop:
    """Callbacks must not block. One that raises is logged, and the loop goes on: a container's life hangs on it."""

    def __init__(self, on_child: Callable[[], None]) -> None:
        """``on_child`` is called after SIGCHLD: any number of children may have changed."""
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopped = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._on_child = on_child
        self.watch(self._wake_read, READABLE, self._woken)

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call with the epoll events whenever the descriptor has some."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch for other events."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Watch no more; to be done before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call once after so many seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def run(self) -> None:
        """Until ``stop``. SIGCHLD comes to the loop that runs."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)  # a handler of our own, or the wakeup descriptor is never written to
        self._guard(self._on_child)  # some may have ended before
        while not self._stopped:
            try:
                events = self._epoll.poll(self._seconds_to_next_timer())
            except InterruptedError:
                continue
            for fd, mask in events:
                callback = self._callbacks.get(fd)
                if callback is not None:
                    self._guard(callback, mask)
            self._call_due_timers()

    def stop(self) -> None:
        """``run`` returns after this turn."""
        self._stopped = True

    def close(self) -> None:
        """Close what the loop itself owns (a fork's child does this with what it inherited)."""
        signal.set_wakeup_fd(-1)
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
        self._epoll.close()

    def _woken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        self._on_child()

    def _seconds_to_next_timer(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return min(max(0.0, self._timers[0][0] - time.monotonic()), WAIT_S_MAX) if self._timers else -1

    def _call_due_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._guard(timer.callback)

    def _guard(self, callback: Callable[..., None], *arguments: int) -> None:
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001  (a fault in one callback must not take the container's only owner away)
            log_exception("a callback failed")


def _nothing(_signal: int, _frame: object) -> None:
    """SIGCHLD is dealt with by the loop, not here."""
