"""What really happened in the guests, told by the fake runtime itself: every creation, start, signal and end of a process, by its token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from corral_worker.shim.spool.format import StreamState

_BLOCK_BYTES = 1 << 16
_BLOCK = bytes((index * 197 + (index >> 8) * 31) & 255 for index in range(_BLOCK_BYTES)) * 2


def generated(seed: int, offset: int, count: int) -> bytes:
    """Bytes `offset` to `offset + count` of the stream with this seed: whoever has them can be checked anywhere."""
    at = (seed + offset) % _BLOCK_BYTES
    if count <= _BLOCK_BYTES:
        return _BLOCK[at : at + count]
    return (_BLOCK[at : at + _BLOCK_BYTES] * (count // _BLOCK_BYTES + 1))[:count]


@dataclass
class Life:
    """One process. `end` is as the kernel knows it; `why` is set where it was not the process's own doing or a signal's."""

    guest: str
    token: str
    container: str
    """Container instance."""
    instance: str
    init: bool
    created_s: float
    pid: int
    seed: int
    """Of what it prints."""
    started_s: float | None = None
    signals: list[tuple[int, float]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    ended_s: float = 0.0
    closed_s: float = 0.0
    """When the last of its streams ended."""
    oom: bool = False
    """The out-of-memory killer ended it."""
    why: str = ""
    reaped: bool = False
    """Its shim has written its end down."""
    orphaned: bool = False
    """Its shim was killed, or the power went, at some time."""
    end_unsafe: bool = False
    """A power cut took what the shim wrote."""
    produced: dict[int, StreamState] = field(default_factory=dict)
    printed_at: list[tuple[str, int, float]] = field(default_factory=list)
    """(stream, its end then, when)"""
    spool_cut: bool = False
    """A power cut may have taken bytes of its output."""
    stdin: bytearray = field(default_factory=bytearray)

    def printed(self, stream: str, offset: int, count: int) -> bytes:
        """What it printed (or would have) there."""
        return generated(self.seed + (1 if stream == "stdout" else 2), offset, count)


class Witness:
    """Of all guests of one simulation."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.by_instance: dict[str, Life] = {}
        self.by_token: dict[str, list[Life]] = {}

    def born(self, life: Life) -> None:
        self.lives.append(life)
        self.by_instance[life.instance] = life
        self.by_token.setdefault(life.token, []).append(life)
