"""What of a guest's credits one key may take."""

from hypothesis import given
from hypothesis import strategies as st

from corral_broker.state.shares import CONTENDED_S, RESERVED, RESERVED_WAITS, YOUNG_MAX, YOUNG_S, KeyShares
from corral_schemas.limits import IN_FLIGHT_PER_GUEST_MAX, WAITS_PER_GUEST_MAX

ALONE = IN_FLIGHT_PER_GUEST_MAX - RESERVED


class Guest:
    """Its shares, and what is in flight."""

    def __init__(self) -> None:
        self.shares, self.sent = KeyShares(), 0
        self.in_flight: list[tuple[str, bytes, bool]] = []

    def ask(self, key: str, now_s: float, *, long_poll: bool = False) -> str:
        """Why not; empty when it was sent."""
        why = self.shares.refusal(key, long_poll, now_s)
        if not why:
            self.sent += 1
            ref = b"%d" % self.sent
            self.shares.add(key, ref, long_poll, now_s)
            self.in_flight.append((key, ref, long_poll))
        return why

    def answer(self, at: int = 0) -> None:
        key, ref, long_poll = self.in_flight.pop(at)
        self.shares.finish(key, ref, long_poll)

    def fill(self, key: str, now_s: float, *, long_poll: bool = False) -> int:
        """How many it is sent until it has to wait."""
        count = 0
        while not self.ask(key, now_s, long_poll=long_poll):
            count += 1
        return count


def test_a_key_alone_takes_all_but_a_reserve_and_another_is_served_at_once() -> None:
    guest = Guest()
    assert guest.fill("a", 0.0) == ALONE
    assert "send fewer at once" in guest.ask("a", 0.0)
    assert guest.ask("b", 0.1) == ""
    assert guest.fill("a", 0.1, long_poll=True) == WAITS_PER_GUEST_MAX - RESERVED_WAITS
    assert guest.ask("b", 0.1, long_poll=True) == ""


def test_while_two_ask_each_has_a_few_young_commands_and_a_turn_with_every_answer() -> None:
    guest = Guest()
    guest.ask("b", 0.0)
    assert guest.fill("a", 0.1) == YOUNG_MAX
    assert "others ask it too" in guest.ask("a", 0.1)
    guest.answer(1)
    assert guest.ask("a", 0.1) == ""
    assert guest.ask("a", 0.1) != ""
    assert guest.fill("b", 0.1) == YOUNG_MAX, "the one it was sent before is older"


def test_commands_that_take_long_do_not_count_and_a_key_that_is_alone_again_has_all() -> None:
    guest = Guest()
    guest.ask("b", 0.0)
    assert guest.fill("a", 0.1) == YOUNG_MAX
    assert guest.fill("a", 0.1 + YOUNG_S) == YOUNG_MAX
    assert guest.fill("a", 0.2 + CONTENDED_S) == ALONE - 2 * YOUNG_MAX


def test_one_that_asks_once_a_second_keeps_its_place_beside_one_that_floods() -> None:
    guest, now_s = Guest(), 0.0
    for _ in range(10):
        now_s += 0.9 * CONTENDED_S
        guest.ask("b", now_s)
        assert guest.fill("a", now_s + 0.01) <= YOUNG_MAX


def test_without_keys_there_are_no_shares() -> None:
    guest = Guest()
    assert all(guest.ask("", 0.0) == "" for _ in range(2 * IN_FLIGHT_PER_GUEST_MAX))
    assert guest.fill("a", 0.0) == ALONE


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 0.5), st.integers(0, 3))))
def test_what_is_answered_leaves_nothing_behind(steps: list[tuple[str, bool, float, int]]) -> None:
    guest, now_s = Guest(), 0.0
    for key, long_poll, later_s, answers in steps:
        now_s += later_s
        guest.ask(key, now_s, long_poll=long_poll)
        for _ in range(min(answers, len(guest.in_flight))):
            guest.answer(len(guest.in_flight) // 2)
        counts = {one: [0, 0] for one in "abc"}
        for one, _, polls in guest.in_flight:
            counts[one][polls] += 1
        there = {one: [taken.in_flight, taken.waits] for one, taken in guest.shares._by_key.items()}
        assert there == {one: count for one, count in counts.items() if any(count)}
    while guest.in_flight:
        guest.answer()
    assert guest.shares._by_key == {}
