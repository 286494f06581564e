"""Memory for large messages: kept for the next one while bytes flow, given back when they stop (mallopt(3), malloc_trim(3))."""

import ctypes
import logging

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LARGE_BYTES = 64 << 20


def keep_large_blocks() -> None:
    """Has malloc serve blocks under 64 MiB from its heap: a message of 1 MiB is no longer a fresh mapping with 256 page faults."""
    libc = ctypes.CDLL(None)
    try:
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BYTES)
    except AttributeError:  # not glibc
        log.info("this C library has no mallopt: large messages cost more")


def give_back() -> None:
    """Returns free heap to the kernel."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        log.debug("this C library has no malloc_trim")
