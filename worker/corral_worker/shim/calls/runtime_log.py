"""The runtime's JSON log: the only place where its errors can be read apart from the container's own output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from corral_worker.shim.base.light import Path
from corral_worker.shim.base.linux import reserve_space

TAIL_BYTES = 64 * 1024
ERROR_BYTES = 4096
ERROR_LEVELS = ("error", "fatal", "panic")


def last_error(path: Path, from_offset: int) -> str:
    """The message of the last error-level entry behind ``from_offset``, "" when there is none. Raises OSError."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(from_offset, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    said = ""
    for entry in _values(text):
        if isinstance(entry, dict) and entry.get("level") in ERROR_LEVELS:
            said = str(entry.get("msg", ""))
    return said


def _values(text: str) -> Iterator[object]:
    """The JSON values of a log. runc writes one a line, newer crun spreads one over several; what is no JSON ends with its line."""
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
            yield value
        except (ValueError, RecursionError):
            at = text.find("\n", at) + 1 or len(text)


def prepare_log(path: Path) -> int:
    """Make sure that an error fits, also on a disk that is full by then; its size in bytes so far. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        reserve_space(fd, size, ERROR_BYTES)
        return size
    finally:
        os.close(fd)
