"""Commands to a broker that limits the key: as many as it allows, each in its turn, by hand on a clock that is a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.links import Links
from corral.core.pace import AT_ONCE_S, Pace
from corral.core.retry import Action, Done, Request, Requests, Send
from corral_schemas.errors import CorralError
from corral_schemas.frames import ReplyHeader, encode_reply, pack
from corral_schemas.queries import Nothing
from corral_schemas.stdio import Done as Nothingness


def limited(rate_per_s: int) -> Requests:
    requests = Requests(Links(1))
    requests.on_up(0, 0.0)
    requests.on_hello(0, 0.0, rate_per_s=rate_per_s)
    return requests


def request(name: str, *, op: str = "pause", deadline_s: float = 1_000.0) -> Request:
    return Request(id=name, guest="g", op=op, args=pack(Nothing()), first_s=0.0, deadline_s=deadline_s)


def sent(actions: list[Action]) -> list[str]:
    return [action.request.id for action in actions if isinstance(action, Send)]


def answer(requests: Requests, name: str, now_s: float) -> None:
    requests.on_reply(0, encode_reply(ReplyHeader(id=name, guest="g", epoch="e"), Nothingness()), now_s)


def played(requests: Requests, count: int) -> list[tuple[float, str]]:
    """Submits so many at once; when each went out, answered as soon as it did."""
    times = [(0.0, name) for number in range(count) for name in sent(requests.submit(request(f"r{number:04}"), 0.0))]
    for now_s, name in times:
        answer(requests, name, now_s)
    while (wake_s := requests.next_wake_s()) is not None:
        for name in sent(requests.expire(wake_s)):
            times.append((wake_s, name))
            answer(requests, name, wake_s)
    return times


@given(rate_per_s=st.integers(1, 5_000), moments=st.lists(st.floats(0, 10), min_size=1, max_size=300).map(sorted))
def test_no_stretch_of_time_gets_more_places_than_its_length_and_half_a_second_allow(rate_per_s: int, moments: list[float]) -> None:
    pace = Pace()
    pace.rate_per_s = rate_per_s
    places = [now_s + pace.wait_s(now_s) for now_s in moments]
    assert places == sorted(places), "in turn"
    for first, begun_s in enumerate(places):
        for last in range(first, len(places)):
            assert last - first <= rate_per_s * (places[last] - begun_s + AT_ONCE_S) + 1 + 1e-6


def test_many_at_once_all_go_out_in_turn_at_the_rate() -> None:
    times = played(limited(100), 500)
    assert [name for _, name in times] == [f"r{number:04}" for number in range(500)]
    assert sum(when_s == 0.0 for when_s, _ in times) == pytest.approx(100 * 0.9 * AT_ONCE_S, abs=1)
    assert times[-1][0] == pytest.approx(500 / 90 - AT_ONCE_S, abs=0.1)


def test_a_broker_without_a_limit_is_sent_all_at_once() -> None:
    assert {when_s for when_s, _ in played(limited(0), 500)} == {0.0}


def test_what_ends_something_does_not_wait_behind_the_rest() -> None:
    requests = limited(10)
    for number in range(50):
        requests.submit(request(f"r{number}"), 0.0)
    assert sent(requests.submit(request("k", op="kill"), 0.0)) == ["k"]


def test_the_first_command_never_waits_however_low_the_rate() -> None:
    assert sent(limited(1).submit(request("r"), 0.0)) == ["r"]


def test_one_that_has_no_turn_by_its_deadline_was_never_sent_and_says_why() -> None:
    requests = limited(10)
    for number in range(50):
        requests.submit(request(f"r{number}"), 0.0)
    requests.submit(request("late", deadline_s=0.5), 0.0)
    outcomes: dict[str, object] = {}
    while not outcomes and (wake_s := requests.next_wake_s()) is not None:
        actions = requests.expire(wake_s)
        assert "late" not in sent(actions)
        outcomes = {one.request.id: one.outcome for one in actions if isinstance(one, Done)}
    why = outcomes["late"]
    assert isinstance(why, CorralError)
    assert (why.code, why.details["sent"], why.details["limit"]) == ("guest_busy", False, 10)


def test_what_waited_for_a_connection_takes_its_turns_once_it_is_back() -> None:
    requests = limited(10)
    requests.on_down(0, 0.0)
    for number in range(50):
        assert not requests.submit(request(f"r{number}"), 0.0)
    assert 1 <= len(sent(requests.on_up(0, 20.0))) <= 10


def test_one_that_waited_and_then_finds_no_connection_says_that_no_broker_could_be_reached() -> None:
    requests = limited(10)
    for number in range(20):
        requests.submit(request(f"r{number}", deadline_s=5.0), 0.0)
    requests.on_down(0, 0.1)
    outcomes: dict[str, object] = {}
    while (wake_s := requests.next_wake_s()) is not None:
        outcomes |= {one.request.id: one.outcome for one in requests.expire(wake_s) if isinstance(one, Done)}
    why = outcomes["r19"]
    assert isinstance(why, CorralError)
    assert (why.code, why.details["sent"]) == ("guest_unreachable", False)
    assert "no broker could be reached" in why.message


def test_one_whose_caller_has_gone_while_it_waited_is_not_sent() -> None:
    requests = limited(10)
    for number in range(50):
        requests.submit(request(f"r{number}"), 0.0)
        requests.forget(f"r{number}")
    assert requests.next_wake_s() is None
