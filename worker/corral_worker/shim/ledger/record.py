"""The shim's own record of what it was asked and what came of it: one JSON object per line, on space taken beforehand."""

from __future__ import annotations

import json
import os

from corral_worker.shim.base.light import Any, Path

RESERVE_BYTES = 64 * 1024
# Taken for each request before its effect: its intent line and its result line.
LINES_BYTES_MAX = 16 * 1024
TEXT_CHARACTERS_MAX = 2000
TRUNCATE_ABOVE_BYTES = 1024 * 1024


class Record:
    """Appends intents and results. A result always fits: its space was taken with the intent."""

    def __init__(self, path: Path) -> None:
        """Open (and go on behind what is there). Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._position = len(_written_part(path.read_bytes()))
            self._owed_bytes = 0  # space promised to results that are still to come
            self._reserved_bytes = 0
            self._reserve()
        except OSError:
            os.close(self._fd)
            raise

    def intent(self, request_id: str, step: str, intent: dict[str, Any]) -> None:
        """Write what is about to be done. Raises OSError: then it must not be done."""
        self._owed_bytes += LINES_BYTES_MAX
        try:
            self._reserve()
            self._write({"id": request_id, "step": step, "intent": intent})
        except OSError:
            self._owed_bytes -= LINES_BYTES_MAX
            raise

    def result(self, request_id: str, step: str, result: dict[str, Any]) -> None:
        """Write what came of it: ``{"ok": {…}}`` or ``{"error": {…}}``. Raises OSError only when the disk is broken."""
        self._write({"id": request_id, "step": step, "result": result})
        self._owed_bytes -= LINES_BYTES_MAX

    def forget_all(self) -> None:
        """Everything in it was acknowledged: begin again, once it has grown large, on the space that is there."""
        if self._position > TRUNCATE_ABOVE_BYTES and self._owed_bytes == 0:
            os.ftruncate(self._fd, RESERVE_BYTES)
            os.pwrite(self._fd, bytes(RESERVE_BYTES), 0)
            self._position, self._reserved_bytes = 0, RESERVE_BYTES

    def close(self) -> None:
        """Close the file; it stays readable."""
        os.close(self._fd)

    def _reserve(self) -> None:
        need = self._position + self._owed_bytes
        if need > self._reserved_bytes:
            os.posix_fallocate(self._fd, 0, need + RESERVE_BYTES)
            self._reserved_bytes = need + RESERVE_BYTES

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        os.pwrite(self._fd, data, self._position)
        self._position += len(data)


def read_record(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What a shim wrote down: ``(request id, step) -> {"intent": {…}, "result": {…} | None}``.

    A torn last line counts as not written. An absent file is an empty record. Raises OSError.
    """
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return entries
    for line in _written_part(content).splitlines():
        entry = json.loads(line)
        kept = entries.setdefault((entry["id"], entry["step"]), {"intent": {}, "result": None})
        kept.update({key: entry[key] for key in ("intent", "result") if key in entry})
    return entries


def _written_part(content: bytes) -> bytes:
    """The whole lines before the zeros of the space that was taken beforehand."""
    written = content.partition(b"\0")[0]
    return written[: written.rfind(b"\n") + 1]
