"""How a process and its streams ended: a small file that always fits, because its space is taken at the start."""

from __future__ import annotations

import json
import os
import struct
import zlib

from corral_worker.shim.base.light import Any, Path

END_FILE_NAME = "end"
SLOT_BYTES = 2048
_SLOT = struct.Struct("<QII")  # sequence number, JSON length, CRC-32 of both numbers and the JSON
_NUMBERS = struct.Struct("<QI")


class EndFile:
    """Rewritten in place in two slots by turns, so that a torn write leaves what was there before."""

    def __init__(self, directory: Path) -> None:
        """Take the space. Raises OSError (a full disk shows here, before anything runs)."""
        self._fd = os.open(directory / END_FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._sequence = 0
        try:
            os.posix_fallocate(self._fd, 0, 2 * SLOT_BYTES)
            os.pwrite(self._fd, bytes(2 * SLOT_BYTES), 0)
        except OSError:
            os.close(self._fd)
            raise

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content: ``{"streams": {"1": {"offset", "crc", "open"}}, "exit": null | {…}}``. Raises OSError."""
        body = json.dumps(content, separators=(",", ":")).encode()
        if len(body) > SLOT_BYTES - _SLOT.size:
            raise ValueError(f"an end of {len(body)} bytes does not fit its slot")
        self._sequence += 1
        check = zlib.crc32(body, zlib.crc32(_NUMBERS.pack(self._sequence, len(body))))
        slot = _SLOT.pack(self._sequence, len(body), check) + body
        os.pwrite(self._fd, slot, SLOT_BYTES * (self._sequence % 2))

    def close(self) -> None:
        """Close the file; it stays readable."""
        os.close(self._fd)


def read_end(path: Path) -> dict[str, Any] | None:
    """The newest whole content of an end file, None when there is none. Raises OSError other than its absence."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    best: tuple[int, dict[str, Any]] | None = None
    for start in (0, SLOT_BYTES):
        found = _read_slot(data[start : start + SLOT_BYTES])
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return None if best is None else best[1]


def _read_slot(slot: bytes) -> tuple[int, dict[str, Any]] | None:
    if len(slot) < _SLOT.size:
        return None
    sequence, length, check = _SLOT.unpack_from(slot)
    body = slot[_SLOT.size : _SLOT.size + length]
    if sequence == 0 or len(body) != length or check != zlib.crc32(body, zlib.crc32(_NUMBERS.pack(sequence, length))):
        return None
    content: dict[str, Any] = json.loads(body)
    return sequence, content
