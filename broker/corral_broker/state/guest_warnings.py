"""What is wrong with a guest that works: shown by `corral guests`, so that nobody has to find out the hard way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from corral_schemas.limits import CLOCK_OFF_S

if TYPE_CHECKING:
    from corral_broker.state.guest import Guest

RIVAL_TOLD_S = 60.0
"""A worker that claimed another's name is told of for so long after its last attempt; a living one tries every few seconds."""


def clock_ahead_s(told_ns: int, wall_ns: int) -> float | None:
    """A guest's clock less ours; None where it told no time."""
    return (told_ns - wall_ns) / 1e9 if told_ns else None


def warnings_of(guest: Guest, version: str, now_s: float) -> list[str]:
    """One line each; `version` is the broker's."""
    found = []
    ahead_s = guest.clock_ahead_s
    if guest.up and ahead_s is not None and abs(ahead_s) > CLOCK_OFF_S:
        found.append(f"its clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the broker's")
    if guest.version and _numbers(guest.version) < _numbers(version):
        found.append(f"its Corral is {guest.version}, older than the broker's {version}")
    if guest.rival_s is not None and now_s - guest.rival_s <= RIVAL_TOLD_S:
        place = f" at {guest.rival_address}" if guest.rival_address else ""
        found.append(f"another worker{place} claims this name and is refused")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """0.10.2 → (0, 10, 2); a version of another form counts as new."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (1 << 30,)
