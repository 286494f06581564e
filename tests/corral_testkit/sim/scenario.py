"""What happens in a run, made from its seed beforehand: who asks what and when, and what goes wrong and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from corral_testkit.sim.runtime import Script

DURATION_S = 40.0
SILENT_FROM = 1_000_000
"""Seeds from here on are runs of hours, in which little happens (scenario_silent.py)."""
STEPS_MIN = 200
RUNTIME_TEXTS = ('exec: "nope": executable file not found in $PATH: unknown', "something odd happened", "no space left on device")
FAULTS = {
    "kill_client": 5,
    "kill_broker": 5,
    "kill_worker": 6,
    "crash_at_write": 12,
    "stop_worker": 4,
    "kill_shim": 6,
    "rival": 4,
    "freeze_worker": 6,
    "freeze_broker": 3,
    "freeze_client": 3,
    "cut": 6,
    "half_cut": 4,
    "reset": 6,
    "slow_line": 3,
    "duplicates": 6,
    "drops": 6,
    "disk_full": 4,
    "slow_disk": 4,
    "slow_runtime": 3,
    "power_cut": 3,
    "rewind": 2,
    "lose_journal": 2,
    "clock_jump": 3,
}
"""Fault → how often, relative to the others."""


def is_silent(seed: int) -> bool:
    return seed >= SILENT_FROM


@dataclass(frozen=True)
class Step:
    """One thing a client does."""

    number: int
    at_s: float
    client: int
    guest: int
    op: str
    """An op of the protocol, or `output`, `stdin`, `push`, `bundles` (a look at them), `follow` (to the end, see readers.py)."""
    container: str
    process: str = "init"
    token: str = ""
    """Of the process it starts, or is about."""
    script: Script | None = None
    timeout_s: float = 30.0
    patient: bool = True
    details: dict[str, Any] = field(default_factory=dict)
    repeats: int | None = None
    """It is that step again, under its request id."""

    @property
    def request_id(self) -> str:
        return f"request-{self.number if self.repeats is None else self.repeats}"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    number: int
    at_s: float
    kind: str
    target: int
    other: int
    lasts_s: float
    amount: float


@dataclass
class Scenario:
    """All of a run."""

    seed: int
    guests: int
    brokers: int
    clients: int
    steps: list[Step]
    faults: list[Fault]
    duration_s: float = DURATION_S

    def only(self, faults: set[int] | None, steps: set[int] | None) -> Scenario:
        """The same with fewer of them; None: all."""
        return replace(
            self,
            faults=[fault for fault in self.faults if faults is None or fault.number in faults],
            steps=[step for step in self.steps if steps is None or step.number in steps],
        )
