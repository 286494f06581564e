"""When a spool takes no more: the process waits, for its consumer, its disk, or the end of its consumer's lease."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from corral_worker.shim.base.loop import Loop, Timer
from corral_worker.shim.process.output import OutputStream
from corral_worker.shim.spool.writer import SpoolWriter

STORAGE_RETRY_S = 0.2
# Shorter waits are the normal pace of a consumer: telling of each would only be noise.
TELL_AFTER_S = 0.05


class Backpressure:
    """Of one process: stops the reading of its streams, and begins it again."""

    def __init__(
        self,
        loop: Loop,
        spool: SpoolWriter,
        streams: Callable[[], Iterable[OutputStream]],
        lease_s: float,
        tell: Callable[[int | None], None],
    ) -> None:
        """``tell`` is called with the wall-clock nanoseconds since when it waits, with None when it goes on."""
        self.since_ns: int | None = None
        self._loop, self._spool, self._streams, self._tell = loop, spool, streams, tell
        self._lease_s = lease_s
        self._leased_until = time.monotonic() + lease_s
        self._told = False
        self._look_timer: Timer | None = None
        self._tell_timer: Timer | None = None

    def begin(self) -> None:
        """No stream is to be read until the spool takes bytes again."""
        for stream in self._streams():
            stream.unwatch()
        if self.since_ns is None:
            self.since_ns = time.time_ns()
            # While there was nothing to read its consumer had nothing to say: its silence counts from now on.
            self._leased_until = max(self._leased_until, time.monotonic() + self._lease_s)
            self._tell_timer = self._loop.later(TELL_AFTER_S, self._tell_now)
            self._wait()

    def consumed(self, offsets: dict[int, int]) -> None:
        """The consumer has this much, and renews its lease."""
        self._leased_until = time.monotonic() + self._lease_s
        self._spool.consumed(offsets)
        if self.since_ns is not None:
            self._look()

    def close(self) -> None:
        """Nothing more is to be read or told."""
        for timer in (self._look_timer, self._tell_timer):
            if timer is not None:
                timer.cancel()

    def _look(self) -> None:
        """The spool may take bytes again; if not, wait on."""
        if self._look_timer is not None:
            self._look_timer.cancel()
        if time.monotonic() >= self._leased_until:
            self._spool.policy = "drop"  # its consumer is gone: rather lose output, with notice, than stop it for ever
        held = [stream for stream in self._streams() if not stream.retry_held()]
        if held or self._spool.room_bytes() == 0:
            self._wait()
            return
        self.close()
        self.since_ns = None
        if self._told:
            self._told = False
            self._tell(None)
        for stream in self._streams():
            stream.watch()

    def _wait(self) -> None:
        seconds = max(0.0, self._leased_until - time.monotonic())
        if self._spool.storage_error is not None:
            seconds = STORAGE_RETRY_S
        self._look_timer = self._loop.later(seconds, self._look)

    def _tell_now(self) -> None:
        self._told = True
        self._tell(self.since_ns)
