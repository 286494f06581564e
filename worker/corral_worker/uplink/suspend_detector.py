"""Whether the process stood still (SIGSTOP, a paused VM): what came meanwhile has been waiting in its sockets all that time."""

import asyncio

AWAKE_INTERVAL_S, STOOD_STILL_S = 0.5, 1.0


class SuspendDetector:
    """A timer that looks at its own lateness. Made in a running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._awake_s = self._loop.time()  # when we were last seen awake
        self._slept: tuple[float, float] = (0.0, 0.0)  # (since when we had stood still, until when that may still be in our sockets)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begins, from now on."""
        self._awake_s = self._loop.time()
        self._look()

    def close(self) -> None:
        """Ends."""
        if self._timer is not None:
            self._timer.cancel()

    def received_s(self, now_s: float) -> float:
        """Since when what is received now can have been waiting in our socket."""
        if now_s - self._awake_s > STOOD_STILL_S:
            return self._awake_s
        slept_s, until_s = self._slept
        return slept_s if now_s < until_s else now_s

    def _look(self) -> None:
        now_s = self._loop.time()
        if now_s - self._awake_s > STOOD_STILL_S:
            self._slept = (self._awake_s, now_s + AWAKE_INTERVAL_S)
        self._awake_s = now_s
        self._timer = self._loop.call_later(AWAKE_INTERVAL_S, self._look)
