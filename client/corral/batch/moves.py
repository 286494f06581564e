"""What goes in and out of a step's runner: the outcome of an attempt, what is to be done next, and how many have ended how."""

from dataclasses import dataclass, field

from corral.batch.records import AnyRecord, Outcome, Sent
from corral.batch.targets import Target


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt."""

    outcome: Outcome
    reason: str = ""
    status: int | None = None
    signal: int = 0
    started_ns: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    settled: bool = True
    """Nothing of it goes on: another attempt cannot overlap it."""


@dataclass(frozen=True, slots=True)
class Write:
    """Into the joblog."""

    record: AnyRecord


@dataclass(frozen=True, slots=True)
class Send:
    """Carry this out, and report with `on_result`."""

    target: Target
    sent: Sent
    ask_first: bool
    """It may have been sent by an earlier life of this run."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Kill what the attempt has begun; its result is still awaited."""

    target: Target
    reason: str
    outcome: Outcome


Action = Write | Send | Abort


@dataclass(slots=True)
class Tally:
    """How many targets have which end."""

    by_outcome: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: str) -> None:
        self.by_outcome[outcome] = self.by_outcome.get(outcome, 0) + 1

    @property
    def failures(self) -> int:
        """All that are neither ok nor skipped."""
        return sum(count for outcome, count in self.by_outcome.items() if outcome not in ("ok", "skipped"))

    @property
    def not_ok(self) -> int:
        return sum(count for outcome, count in self.by_outcome.items() if outcome != "ok")

    @property
    def total(self) -> int:
        return sum(self.by_outcome.values())
