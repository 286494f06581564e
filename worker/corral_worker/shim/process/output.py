"""The way of a process's output: from its pipe or pty master into its spool, a megabyte at a time."""

from __future__ import annotations

import errno
import mmap
import os
import time

from corral_worker.shim.base.light import Protocol
from corral_worker.shim.base.linux import log
from corral_worker.shim.base.loop import READABLE, Loop, Timer
from corral_worker.shim.spool.writer import SpoolWriter

READ_BYTES_MAX = 1024 * 1024
BUFFER_KEPT_BYTES = 64 * 1024
BUFFER_IDLE_S = 1.0
TTY_LOOK_AGAIN_S = 0.1


class ReadBuffer:
    """One megabyte that all streams of a shim read into; its pages go back to the kernel when it idles."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._map = mmap.mmap(-1, READ_BYTES_MAX, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._map)
        self._large_reads = False  # since the last look, so the pages are in use
        self._timer: Timer | None = None

    def read(self, fd: int, max_bytes: int) -> memoryview:
        """One read; the bytes are good until the next one. Raises OSError."""
        length = os.readv(fd, [self._view[: min(max_bytes, READ_BYTES_MAX)]])
        if length > BUFFER_KEPT_BYTES:
            self._large_reads = True
            if self._timer is None:
                self._timer = self._loop.later(BUFFER_IDLE_S, self._look)
        return self._view[:length]

    def _look(self) -> None:
        if self._large_reads:
            self._large_reads = False
            self._timer = self._loop.later(BUFFER_IDLE_S, self._look)
        else:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._timer = None


class StreamOwner(Protocol):
    """What a stream needs of its process."""

    loop: Loop
    buffer: ReadBuffer
    spool: SpoolWriter

    @property
    def is_gone(self) -> bool:
        """The process was reaped."""

    def appended(self) -> None:
        """Bytes of this stream reached the spool."""

    def blocked(self) -> None:
        """The spool takes no more: no stream of this process is to be read until it does."""

    def stream_ended(self, stream: int) -> None:
        """No byte will ever come again."""


class OutputStream:
    """One stream of a process: its descriptor is read when it may be, what was read is in the spool."""

    def __init__(self, owner: StreamOwner, stream: int, fd: int, *, tty: bool) -> None:
        self.stream = stream
        self.is_open = True
        self._owner = owner
        self._fd = fd
        self._tty = tty
        self._watched = False
        self._held = b""  # read, but not accepted by the spool yet
        self._look_again: Timer | None = None
        os.set_blocking(fd, False)
        self.watch()

    def watch(self) -> None:
        """Read when there is something."""
        if self.is_open and not self._watched and self._look_again is None:
            self._watched = True
            self._owner.loop.watch(self._fd, READABLE, self._on_readable)

    def unwatch(self) -> None:
        """Leave the descriptor alone."""
        if self._watched:
            self._watched = False
            self._owner.loop.unwatch(self._fd)

    def _on_readable(self, _events: int) -> None:
        self.turn()

    def turn(self) -> int:
        """Read once, as much as the spool takes; how many bytes came (0: none now, or never again)."""
        if not self.is_open or self._held:
            return 0
        room = self._owner.spool.room_bytes()
        if room == 0:
            self._owner.blocked()
            return 0
        try:
            data = self._owner.buffer.read(self._fd, room)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.EIO:
                self._no_slave()
            else:  # nothing we know of: better an end than a loop that spins on it
                log(f"stream {self.stream}: {error}")
                self.end()
            return 0
        if not data:
            self.end()
            return 0
        self._store(data)
        return len(data)

    def drain(self, max_bytes: int) -> bool:
        """Read what is there now; True when ``max_bytes`` came and there may be more."""
        drained = 0
        while drained < max_bytes:
            length = self.turn()
            if length == 0:
                return False
            drained += length
        return True

    def retry_held(self) -> bool:
        """Offer the spool what it did not accept; True when nothing is held any more."""
        if self._held:
            held, self._held = self._held, b""
            self._store(memoryview(held))
        return not self._held

    def end(self) -> None:
        """Close the descriptor: the stream has ended (or must, with its process that never was)."""
        if self.is_open:
            self.is_open = False
            self.unwatch()
            if self._look_again is not None:
                self._look_again.cancel()
            os.close(self._fd)
            self._owner.stream_ended(self.stream)

    def _store(self, data: memoryview) -> None:
        accepted = self._owner.spool.append(self.stream, data, time.time_ns())
        if accepted < len(data):
            self._held = bytes(data[accepted:])
            self._owner.blocked()
        self._owner.appended()

    def _no_slave(self) -> None:
        """Nobody has the terminal open now. While the process lives somebody may again; polling would spin till then."""
        if self._owner.is_gone:
            self.end()
            return
        self.unwatch()
        if self._look_again is None:
            self._look_again = self._owner.loop.later(TTY_LOOK_AGAIN_S, self._looked_away_long_enough)

    def _looked_away_long_enough(self) -> None:
        self._look_again = None
        self.watch()
