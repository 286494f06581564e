"""`--halt`: when so many targets have failed, begin no more (soon), or also kill what runs (now)."""

import re
from dataclasses import dataclass

_HALT = re.compile(r"(now|soon),fail=(\d+(?:\.\d+)?)(%?)\Z")


@dataclass(frozen=True, slots=True)
class Halt:
    """now: kill what runs too. Of `count` and `percent` exactly one is not 0."""

    now: bool
    count: int = 0
    percent: float = 0.0

    def reached(self, failures: int, targets: int) -> bool:
        """Whether so many failures among so many targets of a step are enough."""
        return failures >= self.count if self.count else failures > 0 and failures * 100 >= self.percent * targets


def parse_halt(text: str) -> Halt:
    """`now|soon,fail=N|N%`. Raises ValueError."""
    match = _HALT.match(text.strip())
    if match is None or float(match[2]) <= 0 or (not match[3] and "." in match[2]) or (match[3] and float(match[2]) > 100):
        raise ValueError(f"{text!r} is not such as now,fail=1 or soon,fail=10%")
    return Halt(match[1] == "now", percent=float(match[2])) if match[3] else Halt(match[1] == "now", count=int(match[2]))
