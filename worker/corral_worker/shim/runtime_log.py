"""The runtime's JSON log: the only place where its errors can be read apart from the container's own output."""

from __future__ import annotations

import json

from corral_worker.shim.light import Path

TAIL_BYTES = 64 * 1024
ERROR_LEVELS = ("error", "fatal", "panic")


def last_error(path: Path, from_offset: int) -> str:
    """The message of the last error-level line behind ``from_offset``, "" when there is none. Raises OSError."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(from_offset, size - TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ERROR_LEVELS:
            return str(entry.get("msg", ""))
    return ""


def log_size(path: Path) -> int:
    """Its size in bytes, 0 when it is not there yet. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
