"""Memory for large messages: kept for the next one while bytes flow, given back when they stop (mallopt(3), malloc_trim(3)).

For programs that are Corral's own: a library does not change how its host program allocates.
"""

import ctypes
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 64 << 20


def keep_large_blocks() -> None:
    """Make malloc serve blocks under 64 MiB from one heap, so that a message of 1 MiB is no longer a fresh mapping with 256 page faults.

    Call it before the first ZeroMQ socket is opened: a thread that has allocated before keeps a heap apart, which is trimmed.
    """
    libc = ctypes.CDLL(None)
    try:
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BYTES)
    except AttributeError:  # not glibc
        log.info("this C library has no mallopt: large messages cost more")


def give_back() -> None:
    """Return free heap to the kernel."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        log.debug("this C library has no malloc_trim")


class KeptMemory:
    """Returns what large messages left on the heap, once none has come for QUIET_S."""

    QUIET_S = 5.0
    LARGE_MESSAGES_BYTES = 32 << 10

    def __init__(self, give_back: Callable[[], None] = give_back) -> None:
        self._give_back = give_back
        self._used_s: float | None = None

    def used(self, size_bytes: int, now_s: float) -> None:
        """Note that messages of so many bytes came together, at `now_s` of a clock that never goes back."""
        if size_bytes >= self.LARGE_MESSAGES_BYTES:
            self._used_s = now_s

    def turn(self, now_s: float) -> None:
        """Return the memory if it is time to. Call it again and again."""
        if self._used_s is not None and now_s - self._used_s >= self.QUIET_S:
            self._used_s = None
            self._give_back()
