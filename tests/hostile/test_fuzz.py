"""A short round of what `make fuzz` does at length."""

import pytest

from hostile.fuzz import fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_messages_of_accepted_peers_leave_the_broker_serving_and_reach_nobody(seed: int) -> None:
    fuzz(4_000, seed)
