"""A short round of what `make fuzz` does at length."""

import pytest

from hostile import fuzz_worker
from hostile.fuzz import BROKER_PORTS, fuzz_broker, report


@pytest.mark.guarantee(21)
@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_messages_of_accepted_peers_leave_the_broker_serving_and_reach_nobody(seed: int) -> None:
    fuzz_broker(4_000, seed, BROKER_PORTS)


@pytest.mark.runc
def test_a_hostile_broker_leaves_the_worker_serving() -> None:
    fuzz_worker.fuzz(4_000, 1, report)
