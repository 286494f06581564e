"""A short chaos run with a fixed seed; `make chaos` runs for as long as wanted."""

from __future__ import annotations

import pytest

from chaos.run import chaos, report

SECONDS = 45.0


@pytest.mark.runc
@pytest.mark.timeout(420)
def test_no_exit_no_byte_and_no_event_is_lost_and_nothing_runs_twice_under_chaos() -> None:
    verdict, story, faults = chaos(SECONDS, seed=1)
    told = report(verdict, story, faults, 1, SECONDS)
    print(told)
    assert not verdict.breaches, told
    assert sum(faults.tally.values()) >= 10, told
    assert verdict.counts["exited"] >= 20, told
