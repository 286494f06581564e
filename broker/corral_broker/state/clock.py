"""The time, as the core is told it: nothing in the core reads a clock."""

from dataclasses import dataclass


@dataclass(slots=True)
class Clock:
    """Set once per turn of the loop, shared by all parts of one core."""

    now_s: float
    """Monotonic seconds."""
    wall_ns: int
    """Nanoseconds since 1970."""
