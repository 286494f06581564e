"""The way of a process's input: every writer's bytes once, by the writer's offset, through a bounded buffer."""

from __future__ import annotations

import os
import termios
from collections import deque
from collections.abc import Callable

from corral_worker.shim.base.loop import WRITABLE, Loop
from corral_worker.shim.ledger.answers import RequestError

BUFFER_BYTES_MAX = 1024 * 1024
# Writers whose offsets are kept; beyond, the one that was silent longest is forgotten and gets a gap error if it writes again.
WRITERS_MAX = 256
# Called with the new offset, or with what went wrong.
Done = Callable[[int | RequestError], None]


class InputStream:
    """Writes to a pipe or pty master. Requests are answered in order, when their bytes are in the buffer."""

    def __init__(self, loop: Loop, fd: int | None, *, tty: bool = False) -> None:
        """``fd`` None: the process has no input, everything is answered ``stdin_closed``."""
        self.offset = 0  # bytes accepted since the stream began, from all writers
        self._taken_of: dict[str, int] = {}  # writer → bytes accepted from it; who wrote last stands last
        self._loop = loop
        self._fd = fd
        self._tty = tty
        self._watched = False
        self._closing = fd is None
        self._buffer = bytearray()
        self._waiting: deque[tuple[str, int | None, bytes | None, Done]] = deque()  # writer, offset, bytes (None: close), answer
        if fd is not None:
            os.set_blocking(fd, False)

    def write(self, offset: int, data: bytes, done: Done, writer: str = "") -> None:
        """Accept bytes that begin at ``offset`` of what this writer writes; those below what was accepted from it before are skipped.

        Without a name the offset counts the bytes of all writers.
        """
        self._waiting.append((writer, offset, data, done))
        self._advance()

    def close_at(self, offset: int | None, done: Done, writer: str = "") -> None:
        """Close behind everything accepted so far, which must reach ``offset`` of this writer. Closing twice is fine."""
        self._waiting.append((writer, offset, None, done))
        self._advance()

    def shut(self) -> None:
        """The process is gone: close at once, answer what waits."""
        self._closing = True
        self._buffer.clear()
        self._close_fd()
        self._advance()

    def _advance(self) -> None:
        while True:
            while self._waiting and self._answer_first():
                continue
            self._write_out()
            if not self._waiting or self._watched:  # a full pipe: goes on when it is writable
                return

    def _answer_first(self) -> bool:
        writer, offset, data, done = self._waiting[0]
        taken = self._taken_of.get(writer, 0) if writer else self.offset
        result: int | RequestError
        if data is not None and self._closing and not (data and (offset or 0) + len(data) <= taken):  # of a repeat all was taken before
            result = RequestError("stdin_closed", offset=taken)
        elif offset is not None and offset > taken:
            result = RequestError("stdin_gap", f"expected offset {taken}", offset=taken)
        elif data is None:
            self._closing = True
            result = taken
        else:
            fresh = data[taken - (offset or 0) :]
            if self._buffer and len(self._buffer) + len(fresh) > BUFFER_BYTES_MAX:
                return False
            self._buffer += fresh
            self.offset += len(fresh)
            result = taken + len(fresh)
            if writer:
                self._note_taken(writer, result)
        self._waiting.popleft()
        done(result)
        return True

    def _note_taken(self, writer: str, taken: int) -> None:
        self._taken_of.pop(writer, None)
        self._taken_of[writer] = taken
        if len(self._taken_of) > WRITERS_MAX:
            del self._taken_of[next(iter(self._taken_of))]

    def _write_out(self) -> None:
        if self._fd is None:
            return
        try:
            while self._buffer:
                written = os.write(self._fd, memoryview(self._buffer)[:BUFFER_BYTES_MAX])
                del self._buffer[:written]
        except BlockingIOError:
            self._watch(True)
            return
        except OSError:  # nobody reads any more (EPIPE; EIO on a terminal)
            self.shut()
            return
        self._watch(False)
        if self._closing:
            self._close_fd()

    def _on_writable(self, _: int) -> None:
        self._write_out()
        if not self._watched:
            self._advance()

    def _watch(self, wanted: bool) -> None:
        if self._fd is None or wanted == self._watched:
            return
        self._watched = wanted
        if wanted:
            self._loop.watch(self._fd, WRITABLE, self._on_writable)
        else:
            self._loop.unwatch(self._fd)

    def _close_fd(self) -> None:
        if self._fd is None:
            return
        if self._tty:
            _type_end_of_file(self._fd)
        self._watch(False)
        os.close(self._fd)
        self._fd = None


def _type_end_of_file(master: int) -> None:
    """A terminal has no half-close: what stands for it is the end-of-file character, while lines are being edited."""
    try:
        attributes = termios.tcgetattr(master)
        if attributes[3] & termios.ICANON:
            os.write(master, attributes[6][termios.VEOF])
    except (OSError, termios.error):  # the terminal is gone or full: its process will not miss it
        return
