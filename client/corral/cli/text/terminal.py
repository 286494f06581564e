"""The user's terminal: raw mode that is always undone, its size, and the keys that detach."""

import contextlib
import os
import termios
import tty
from collections.abc import Iterator
from typing import NamedTuple, TextIO

DETACH_KEYS = "ctrl-p,ctrl-q"


class Size(NamedTuple):
    rows: int
    columns: int


def size_of(*descriptors: int) -> Size | None:
    """Size of the first descriptor that is a terminal which knows its size."""
    for descriptor in descriptors:
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        if rows and columns:
            return Size(rows, columns)
    return None


def can_redraw(stream: TextIO) -> bool:
    """Say whether `stream` is a terminal that moves its cursor: an editor's shell, for one, calls itself `dumb`."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextlib.contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Every byte typed goes through, Ctrl-C included; the former settings come back whatever happens."""
    former = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        # DRAIN waits for what was written to reach the screen. The terminal may be gone by now (hung up): nothing to restore then.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, former)


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,ctrl-[` → the bytes that detach; empty → none. Raises ValueError."""
    keys = bytearray()
    for key in text.split(",") if text else []:
        name = key.strip()
        if len(name) == 1 and name.isascii() and name.isprintable():
            keys += name.encode()
        elif name.lower().startswith("ctrl-") and len(name) == 6 and "@" <= name[5].upper() <= "_":
            keys.append(ord(name[5].upper()) & 0x1F)
        else:
            raise ValueError(f"{name!r} is not a key such as a or ctrl-p (ctrl- with a letter or one of @ [ \\ ] ^ _)")
    return bytes(keys)


class DetachKeys:
    """Finds the detach sequence in what is typed. Bytes that may begin it are held back until the next byte decides."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""
        self.detached = False

    def feed(self, typed: bytes) -> bytes:
        """Gives what is to be sent on; after `detached` became true nothing more is."""
        if not self._keys:
            return typed
        passed = bytearray()
        for position in range(len(typed)):
            if self.detached:
                break
            self._held += typed[position : position + 1]
            while not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                self.detached, self._held = True, b""
        return bytes(passed)
