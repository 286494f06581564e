"""A short chaos with a fixed seed; `make chaos` runs long ones."""

from __future__ import annotations

import pytest

from chaos.run import chaos

SECONDS = 45.0


@pytest.mark.guarantee(1)
@pytest.mark.runc
@pytest.mark.timeout(420)
def test_no_exit_no_byte_and_no_event_is_lost_and_nothing_runs_twice_under_chaos() -> None:
    verdict, told = chaos(SECONDS, seed=1)
    print(told)
    assert not verdict.breaches, told
    assert verdict.counts["exits"] >= 100, told
    assert verdict.counts["faults"] >= 10, told
