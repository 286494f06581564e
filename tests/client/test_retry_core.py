"""The request state machine, driven by hand: time is a number, messages are values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.links import Links
from corral.core.retry import Action, Done, Request, Requests, Send
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import ReplyHeader, decode_command_header, encode_reply, pack
from corral_schemas.queries import Nothing
from corral_schemas.stdio import Done as Nothingness


def make(*, brokers: int = 1) -> Requests:
    requests = Requests(Links(brokers))
    for link in range(brokers):
        requests.on_up(link, 0.0)
        requests.on_hello(link, 0.0)
    return requests


def request(
    name: str = "r1", *, deadline_s: float = 30.0, patience_s: float = 0.0, poll_s: float = 0.0, patience_once_there_s: float = 0.0
) -> Request:
    return Request(
        id=name,
        guest="g",
        op="pause",
        args=pack(Nothing()),
        first_s=0.0,
        deadline_s=deadline_s,
        patience_s=patience_s,
        poll_s=poll_s,
        patience_once_there_s=patience_once_there_s,
    )


def reply(name: str = "r1", outcome: CorralError | None = None, epoch: str = "e1") -> list[bytes]:
    return encode_reply(ReplyHeader(id=name, guest="g", epoch=epoch), outcome or Nothingness())


def sends(actions: list[Action]) -> list[Send]:
    return [action for action in actions if isinstance(action, Send)]


def only_outcome(actions: list[Action]) -> object:
    (done,) = (action for action in actions if isinstance(action, Done))
    return done.outcome


def test_silence_is_answered_by_sending_again_after_growing_times_under_one_id() -> None:
    requests = make()
    requests.submit(request(), 0.0)
    times = []
    while (wake_s := requests.next_wake_s()) is not None and wake_s < 30.0:
        (send,) = sends(requests.expire(wake_s))
        times.append(wake_s)
        header = decode_command_header(send.frames)
        assert header.id == "r1"
        assert header.age_ms == int(wake_s * 1000)
        assert header.timeout_ms == int((30.0 - wake_s) * 1000)
    assert times == [1.0, 3.0, 7.0, 15.0, 23.0]


def test_a_long_poll_is_given_its_poll_time_before_silence_counts() -> None:
    requests = make()
    requests.submit(request(deadline_s=90.0, poll_s=60.0), 0.0)
    assert requests.next_wake_s() == 61.0


def test_the_first_reply_is_the_outcome_and_later_ones_are_strays() -> None:
    requests = make()
    requests.submit(request(), 0.0)
    assert isinstance(only_outcome(requests.on_reply(0, reply(), 0.1)), Nothingness)
    assert requests.on_reply(0, reply(), 0.2) == []
    assert (len(requests), requests.strays) == (0, 1)


def test_no_answer_by_the_deadline_is_deadline_exceeded_with_the_request_id() -> None:
    requests = make()
    requests.submit(request(deadline_s=0.5), 0.0)
    outcome = only_outcome(requests.expire(0.6))
    assert isinstance(outcome, CorralError)
    assert (outcome.code, outcome.details["request_id"]) == ("deadline_exceeded", "r1")


def test_a_busy_guest_is_asked_again_and_is_the_outcome_only_if_it_never_took_the_command() -> None:
    requests = make()
    requests.submit(request(deadline_s=2.0), 0.0)
    assert requests.on_reply(0, reply(outcome=error("guest_busy", "full")), 0.0) == []
    wake_s = requests.next_wake_s()
    assert wake_s is not None and 0.0 < wake_s < 0.1
    (again,) = sends(requests.expire(wake_s))
    assert decode_command_header(again.frames).id == "r1"
    requests.on_reply(0, reply(outcome=error("guest_busy", "full")), 1.99)
    outcome = only_outcome(requests.expire(2.2))
    assert isinstance(outcome, CorralError)
    assert (outcome.code, outcome.details["sent"]) == ("guest_busy", False)


def test_busy_after_an_unanswered_copy_never_hides_that_the_copy_may_run() -> None:
    requests = make()
    requests.submit(request(deadline_s=2.0), 0.0)
    requests.expire(1.0)  # the first copy was never answered; the second one is turned away
    requests.on_reply(0, reply(outcome=error("guest_busy", "full")), 1.99)
    outcome = only_outcome(requests.expire(2.2))
    assert isinstance(outcome, CorralError)
    assert outcome.code == "deadline_exceeded"


def test_a_broker_that_held_a_copy_in_vain_never_hides_that_an_earlier_one_may_have_run() -> None:
    requests = make()
    requests.submit(request(), 0.0)
    requests.on_down(0, 0.1)  # its broker died before it answered
    requests.on_up(0, 0.2)
    in_vain = error("deadline_exceeded", "guest g did not come up by the deadline", sent=False)
    outcome = only_outcome(requests.on_reply(0, reply(outcome=in_vain), 29.0))
    assert isinstance(outcome, CorralError)
    assert (outcome.code, outcome.details["sent"]) == ("deadline_exceeded", True)


def test_an_unreachable_guest_is_the_outcome_at_once_unless_the_caller_has_patience() -> None:
    away = error("guest_unreachable", "down")
    requests = make()
    requests.submit(request(), 0.0)
    outcome = only_outcome(requests.on_reply(0, reply(outcome=away), 0.1))
    assert isinstance(outcome, CorralError) and outcome.code == "guest_unreachable"
    requests.submit(request("patient", patience_s=5.0), 0.0)
    assert requests.on_reply(0, reply("patient", away), 0.0) == []
    assert sends(requests.expire(0.2))
    assert requests.on_reply(0, reply("patient", away), 4.9) == []
    assert sends(requests.expire(5.05))
    outcome = only_outcome(requests.on_reply(0, reply("patient", away), 5.1))
    assert isinstance(outcome, CorralError) and outcome.code == "guest_unreachable"


@pytest.mark.guarantee(25)
def test_a_poll_that_has_reached_its_guest_outlives_a_short_absence_of_it_without_other_patience() -> None:
    requests = make()
    requests.submit(request(deadline_s=90.0, poll_s=60.0, patience_once_there_s=5.0), 0.0)
    lost, down = (error("guest_unreachable", "gone", sent=sent) for sent in (True, False))
    assert requests.on_reply(0, reply(outcome=lost), 31.0) == []
    assert len(sends(requests.expire(31.1))) == 1
    assert requests.on_reply(0, reply(outcome=down), 31.2) == [], "its worker starts again"
    assert len(sends(requests.expire(32.0))) == 1
    assert requests.on_reply(0, reply(outcome=lost), 55.0) == [], "and once more"
    assert len(sends(requests.expire(56.0))) == 1
    outcome = only_outcome(requests.on_reply(0, reply(outcome=down), 60.1))
    assert isinstance(outcome, CorralError)
    assert (outcome.code, outcome.details["sent"]) == ("guest_unreachable", True)


def test_patience_begins_anew_with_each_time_that_the_guest_is_away() -> None:
    requests = make()
    requests.submit(request(deadline_s=90.0, poll_s=60.0, patience_s=5.0), 0.0)
    away = error("guest_unreachable", "not registered yet", sent=False)
    for restarted_s in (10.0, 40.0):
        requests.on_down(0, restarted_s)
        assert len(sends(requests.on_up(0, restarted_s + 1))) == 1
        assert requests.on_reply(0, reply(outcome=away), restarted_s + 1) == []
        assert len(sends(requests.expire(restarted_s + 2))) == 1, "and this one is taken"


def test_what_was_under_way_is_sent_again_when_the_connection_comes_back() -> None:
    requests = make()
    requests.submit(request(), 0.0)
    assert requests.on_down(0, 0.1) == []
    (send,) = sends(requests.on_up(0, 0.2))
    assert decode_command_header(send.frames).id == "r1"


@pytest.mark.parametrize("code", ["guest_busy", "guest_unreachable"])
def test_a_command_turned_away_whose_time_comes_while_there_is_no_connection_goes_out_with_the_next_one(code: str) -> None:
    requests = make()
    requests.submit(request(patience_s=30.0), 0.0)
    requests.on_reply(0, reply(outcome=error(code, "later")), 0.0)
    requests.on_down(0, 0.01)
    assert requests.expire(0.5) == []
    (send,) = sends(requests.on_up(0, 1.0))
    assert decode_command_header(send.frames).id == "r1"


def test_a_command_turned_away_is_not_sent_before_its_time_by_a_reconnect() -> None:
    requests = make()
    requests.submit(request(), 0.0)
    requests.on_reply(0, reply(outcome=error("guest_busy", "later")), 0.0)
    requests.on_down(0, 0.01)
    assert requests.on_up(0, 0.02) == []
    assert sends(requests.expire(0.5))


def test_without_a_connection_a_command_waits_and_then_says_that_it_was_never_sent() -> None:
    requests = Requests(Links(1))
    assert requests.submit(request(deadline_s=1.0), 0.0) == []
    outcome = only_outcome(requests.expire(1.2))
    assert isinstance(outcome, CorralError)
    assert (outcome.code, outcome.details["sent"]) == ("guest_unreachable", False)


def test_a_silent_broker_gives_way_to_another_and_a_refusing_one_is_not_the_last_word() -> None:
    requests = make(brokers=2)
    (first,) = sends(requests.submit(request(), 0.0))
    (second,) = sends(requests.expire(1.0))
    assert (first.link, second.link) == (0, 1)
    (third,) = sends(requests.on_reply(1, reply(outcome=error("guest_unreachable", "not here")), 1.1))
    assert third.link == 0
    assert isinstance(only_outcome(requests.on_reply(0, reply(), 1.2)), Nothingness)


def test_a_broken_connection_moves_its_commands_to_another_broker() -> None:
    requests = make(brokers=2)
    requests.submit(request(), 0.0)
    (again,) = sends(requests.on_down(0, 0.1))
    assert again.link == 1


def test_every_copy_states_the_epoch_known_at_first_and_a_fresh_command_survives_a_new_one() -> None:
    requests = make()
    requests.submit(request("before"), 0.0)
    requests.on_reply(0, reply("before", epoch="e1"), 0.0)
    (send,) = sends(requests.submit(request("fresh"), 0.0))
    assert decode_command_header(send.frames).epoch == "e1"
    (again,) = sends(requests.on_reply(0, reply("fresh", error("outcome_unknown", "epoch ended"), epoch="e2"), 0.1))
    assert decode_command_header(again.frames).epoch == "e2"


def test_a_repeated_command_never_moves_on_to_a_new_epoch() -> None:
    requests = make()
    requests.submit(request("before"), 0.0)
    requests.on_reply(0, reply("before", epoch="e1"), 0.0)
    requests.submit(request("fresh"), 0.0)
    requests.expire(1.0)
    outcome = only_outcome(requests.on_reply(0, reply("fresh", error("outcome_unknown", "epoch ended"), epoch="e2"), 1.1))
    assert isinstance(outcome, CorralError) and outcome.code == "outcome_unknown"


def test_a_request_id_on_its_way_cannot_be_used_again() -> None:
    requests = make()
    requests.submit(request(), 0.0)
    with pytest.raises(CorralError, match="request_conflict"):
        requests.submit(request(), 0.0)


@given(st.lists(st.one_of(st.binary(max_size=40).map(lambda junk: ("junk", junk)), st.sampled_from(
    [("busy", b""), ("down", b""), ("up", b""), ("unsent", b""), ("time", b""), ("away", b"")])), max_size=40))  # fmt: skip
def test_whatever_happens_each_command_gets_one_outcome_by_its_deadline(story: list[tuple[str, bytes]]) -> None:
    requests = make()
    outcomes: list[Done] = []
    now_s = 0.0
    actions = requests.submit(request(deadline_s=10.0, patience_s=3.0), now_s)
    for what, junk in story:
        now_s += 0.3
        last = sends(actions)
        if what == "junk":
            actions = requests.on_reply(0, [junk, junk], now_s)
        elif what in ("busy", "away"):
            actions = requests.on_reply(0, reply(outcome=error("guest_busy" if what == "busy" else "guest_unreachable", "x")), now_s)
        elif what == "down":
            actions = requests.on_down(0, now_s)
        elif what == "up":
            actions = requests.on_up(0, now_s)
        elif what == "unsent" and last and len(requests):
            requests.on_unsent(last[0].request, now_s)
            actions = []
        else:
            actions = requests.expire(now_s)
        outcomes += [action for action in actions if isinstance(action, Done)]
    outcomes += [action for action in requests.expire(max(now_s, 10.2)) if isinstance(action, Done)]
    assert len(outcomes) == 1
    assert len(requests) == 0
    assert requests.next_wake_s() is None


def test_what_somebody_else_may_have_sent_states_what_he_knew_and_never_moves_on_to_a_new_epoch() -> None:
    requests = make()
    requests.submit(request("before"), 0.0)
    requests.on_reply(0, reply("before", epoch="e2"), 0.0)
    taken_up = request("again")
    taken_up.epoch, taken_up.sent_before, taken_up.first_s = "e1", True, -40.0
    (send,) = sends(requests.submit(taken_up, 0.0))
    header = decode_command_header(send.frames)
    assert (header.epoch, header.age_ms) == ("e1", 40_000)
    outcome = only_outcome(requests.on_reply(0, reply("again", error("outcome_unknown", "epoch ended"), epoch="e2"), 0.1))
    assert isinstance(outcome, CorralError) and outcome.code == "outcome_unknown"


def sharing(name: str, *, shared: str = "piece") -> Request:
    made = request(name)
    made.shared = shared
    return made


def shares() -> Requests:
    requests = Requests(Links(1))
    requests.on_up(0, 0.0)
    requests.on_hello(0, 0.0, shares_args=True)
    return requests


def frames_of(actions: list[Action]) -> tuple[str, bytes]:
    """(the name stated for the arguments, the arguments sent)"""
    (send,) = sends(actions)
    return decode_command_header([send.frames[0], b"."]).shared, send.frames[1]


def test_arguments_that_several_commands_share_go_to_a_broker_once() -> None:
    requests = shares()
    whole = pack(Nothing())
    assert frames_of(requests.submit(sharing("r1"), 0.0)) == ("piece", whole)
    assert frames_of(requests.submit(sharing("r2"), 0.0)) == ("piece", b"")
    assert frames_of(requests.submit(sharing("r3", shared="other"), 0.0)) == ("other", whole)


def test_a_broker_that_does_not_say_that_it_keeps_them_is_sent_all_of_them() -> None:
    requests = make()
    for name in ("r1", "r2"):
        assert frames_of(requests.submit(sharing(name), 0.0)) == ("", pack(Nothing()))


def test_arguments_that_a_broker_keeps_no_more_are_sent_whole_and_the_outcome_is_that_of_the_command() -> None:
    requests = shares()
    requests.submit(sharing("r1"), 0.0)
    requests.submit(sharing("r2"), 0.0)
    again = requests.on_reply(0, reply("r2", error("args_unknown", "gone")), 1.0)
    assert frames_of(again) == ("piece", pack(Nothing()))
    assert only_outcome(requests.on_reply(0, reply("r2"), 2.0)) == Nothingness()


def test_a_broker_that_does_not_know_what_it_was_just_sent_is_not_asked_for_ever() -> None:
    requests = shares()
    requests.submit(sharing("r1"), 0.0)
    outcome = only_outcome(requests.on_reply(0, reply("r1", error("args_unknown", "gone")), 1.0))
    assert isinstance(outcome, CorralError) and outcome.code == "args_unknown"


def test_a_new_connection_and_a_message_that_could_not_go_out_bring_the_arguments_whole() -> None:
    requests = shares()
    first = sharing("r1")
    requests.submit(first, 0.0)
    requests.on_unsent(first, 0.0)
    assert frames_of(requests.submit(sharing("r2"), 0.0)) == ("piece", pack(Nothing()))
    requests.on_down(0, 1.0)
    again = sends(requests.on_up(0, 2.0))
    assert [send.frames[1] for send in again] == [pack(Nothing())] * 2, "it may be another broker, and has said nothing yet"
    requests.on_hello(0, 2.0, shares_args=True)
    assert frames_of(requests.submit(sharing("r3"), 3.0)) == ("piece", pack(Nothing()))
    assert frames_of(requests.submit(sharing("r4"), 3.0)) == ("piece", b"")
