"""What one key may ask, and when it is turned away."""

import math

from corral_broker.access.keyring import Grant
from corral_broker.access.quotas import (
    AWAY_S_MAX,
    AWAY_S_MIN,
    BURST_S,
    FORGIVEN_S,
    GUEST_BURST_S,
    PROBATION,
    RATE_PER_KEY_MAX,
    SAY_INTERVAL_S,
    TOLERATED_MIN,
    Flooding,
    Quotas,
)

RATE_PER_S = 1_000
GRANT = Grant("k", "f", "operator", "", None, math.inf, RATE_PER_S, 0)
DEFAULT = Grant("k", "f", "operator", "", None, math.inf, 0, 0)


def ask(quotas: Quotas, per_s: int, begin_s: float, seconds: float) -> tuple[int, float]:
    """Asks evenly until it is turned away or the time is over. Returns how many passed, and when it ended."""
    passed, now_s = 0, begin_s
    for number in range(int(per_s * seconds)):
        now_s = begin_s + number / per_s
        passed += quotas.refusal("key", GRANT, 0, now_s) is None
        if quotas.is_away("clients", "key", now_s):
            break
    return passed, now_s


def test_a_silent_key_may_ask_for_a_burst_at_once_and_then_for_its_rate() -> None:
    quotas = Quotas()
    assert sum(quotas.refusal("key", DEFAULT, 0, 5.0) is None for _ in range(RATE_PER_KEY_MAX * 2)) == RATE_PER_KEY_MAX * BURST_S
    assert sum(quotas.refusal("key", DEFAULT, 0, 6.0) is None for _ in range(RATE_PER_KEY_MAX * 2)) == RATE_PER_KEY_MAX
    assert quotas.refusal("other", DEFAULT, 0, 6.0) is None


def test_up_to_twice_its_rate_a_key_gets_its_rate_and_is_never_turned_away() -> None:
    quotas = Quotas()
    passed, _ = ask(quotas, 2 * RATE_PER_S - 10, 0.0, 60.0)
    assert 60 * RATE_PER_S <= passed <= (60 + BURST_S) * RATE_PER_S + 1
    assert quotas.take_flooding() == []


def test_a_key_that_asks_for_more_is_turned_away_longer_each_time_and_earns_nothing_meanwhile() -> None:
    quotas, now_s, away = Quotas(), 0.0, []
    for number in range(8):
        passed, now_s = ask(quotas, 10 * RATE_PER_S, now_s, 60.0)
        assert number == 0 or passed <= RATE_PER_S * PROBATION * 2
        [(socket, key, away_s)] = quotas.take_flooding()
        assert (socket, key) == ("clients", "key")
        assert quotas.is_away("clients", "key", now_s + away_s - 0.01)
        assert not quotas.is_away("clients", "key", now_s + away_s)
        away.append(away_s)
        now_s += away_s
    assert away == [AWAY_S_MIN, 2.0, 4.0, 8.0, 16.0, AWAY_S_MAX, AWAY_S_MAX, AWAY_S_MAX]
    _, now_s = ask(quotas, 10 * RATE_PER_S, now_s + FORGIVEN_S, 60.0)
    assert quotas.take_flooding() == [Flooding("clients", "key", AWAY_S_MIN)]


def test_each_socket_has_its_own_account_and_a_guests_floods_are_cut_sooner() -> None:
    quotas, count = Quotas(), 5 * RATE_PER_S
    passed = sum(quotas.passes("events_in", "key", GRANT, 0.0) for _ in range(count))
    assert passed == RATE_PER_S * GUEST_BURST_S
    assert quotas.take_flooding() == [Flooding("events_in", "key", AWAY_S_MIN)]
    assert quotas.is_away("events_in", "key", 0.5)
    assert not quotas.is_away("workers", "key", 0.5)
    assert not quotas.is_away("a domain that nobody has heard of", "key", 0.5)
    assert quotas.passes("workers", "key", GRANT, 0.5)
    assert quotas.refusal("key", GRANT, 0, 0.5) is None


def test_of_stray_replies_four_are_one_message() -> None:
    quotas = Quotas()
    count = int(4 * (RATE_PER_S * GUEST_BURST_S + TOLERATED_MIN))
    passed = sum(quotas.passes("workers", "key", GRANT, 0.0, 0.25) for _ in range(count))
    assert passed == 4 * RATE_PER_S * GUEST_BURST_S
    assert quotas.take_flooding() == []
    quotas.passes("workers", "key", GRANT, 0.0, 0.25)
    assert quotas.take_flooding() == [Flooding("workers", "key", AWAY_S_MIN)]


def test_refusals_are_said_once_a_second_with_their_number() -> None:
    quotas = Quotas()
    quotas.refusal("key", GRANT, 0, 0.0)
    assert [quotas.to_say("key", now_s) for now_s in (0.0, 0.1, 0.2, SAY_INTERVAL_S, SAY_INTERVAL_S + 0.1)] == [1, 0, 0, 3, 0]
