"""From a failing run to a small one that fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from corral_testkit.sim.scenario import Scenario
from corral_testkit.sim.simulation import Result

T = TypeVar("T")


def shrink(scenario: Scenario, finding: str, run: Callable[[Scenario], Result], seconds: float) -> Scenario:
    """Drops faults, then steps, in halves, quarters and so on, as long as the finding stays."""
    until_s = time.perf_counter() + seconds
    kind = finding.split()[0]

    def still_fails(smaller: Scenario) -> bool:
        return time.perf_counter() < until_s and any(line.split()[0] == kind for line in run(smaller).findings)

    small = replace(scenario, faults=_least(scenario.faults, lambda faults: still_fails(replace(scenario, faults=list(faults)))))
    return replace(small, steps=_least(small.steps, lambda steps: still_fails(replace(small, steps=list(steps)))))


def _least(parts: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    kept, size = list(parts), max(1, len(parts) // 2)
    while True:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if fails(fewer):
                kept = fewer
            else:
                at += size
        if size == 1:
            return kept
        size //= 2
