"""Framing between worker, shim and zygote: two lengths, a JSON object, bytes. No I/O here."""

from __future__ import annotations

import json
import struct

from corral_worker.shim.base.light import Any

Message = dict[str, Any]

VERSION = 1
"""Of the messages (`shim/messages.py`): a peer says its own in `hello` and `state`; one that says none has 1."""
LENGTHS = struct.Struct("!II")
JSON_BYTES_MAX = 8 * 1024 * 1024
BLOB_BYTES_MAX = 1024 * 1024


class WireError(Exception):
    """The peer broke the framing: nothing after it can be understood, so the connection must be closed."""


def encode(message: Message, blob: bytes | memoryview = b"") -> bytes:
    """One frame as bytes.

    Args:
        message: a JSON object.
        blob: raw bytes that travel with it, at most BLOB_BYTES_MAX.

    Raises:
        WireError: the message or the blob is larger than the framing allows.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > JSON_BYTES_MAX or len(blob) > BLOB_BYTES_MAX:
        raise WireError(f"frame too large: {len(body)} bytes of JSON, {len(blob)} bytes beside it")
    return b"".join((LENGTHS.pack(len(body), len(blob)), body, blob))


class FrameReader:
    """Turns bytes, however they are cut, into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._pending)

    def feed(self, data: bytes | memoryview) -> list[tuple[Message, bytes]]:
        """Messages completed by ``data``, in order, each with its blob.

        Raises:
            WireError: sizes beyond the limits, or a body that is no JSON object.
        """
        self._pending += data
        messages = []
        position = 0
        while (frame := self._frame_at(position)) is not None:
            message, blob, position = frame
            messages.append((message, blob))
        del self._pending[:position]
        return messages

    def _frame_at(self, position: int) -> tuple[Message, bytes, int] | None:
        body_at = position + LENGTHS.size
        if len(self._pending) < body_at:
            return None
        json_len, blob_len = LENGTHS.unpack_from(self._pending, position)
        if json_len > JSON_BYTES_MAX or blob_len > BLOB_BYTES_MAX:
            raise WireError(f"frame announces {json_len} bytes of JSON and {blob_len} bytes beside it")
        blob_at = body_at + json_len
        end = blob_at + blob_len
        if len(self._pending) < end:
            return None
        return _object(bytes(self._pending[body_at:blob_at])), bytes(self._pending[blob_at:end]), end


def _object(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"frame body is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise WireError("frame body is not a JSON object")
    return message
