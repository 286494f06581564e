"""The event stream's state machine against a model journal: whatever is lost, doubled or late, each event comes once and in order."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.core.follow import Follow
from corral.core.guest_feed import Ask, AskPlace, Replay
from corral.core.items import Advance, Event, EventGap, Resync, Step
from corral.core.selection import Selection
from corral_schemas.cursor import Place
from corral_schemas.errors import error
from corral_schemas.events import EventHeader, mark_of
from corral_schemas.frames import pack
from corral_schemas.queries import ReplayReply

KINDS = ("started", "exit", "oom")


@dataclass
class Journal:
    """What a guest has recorded."""

    guest: str = "g"
    epoch: str = "e1"
    rows: list[EventHeader] = field(default_factory=list)
    trimmed: int = 0

    def record(self, kind: str) -> EventHeader:
        prev = max((row.seq for row in self.rows if row.kind == kind), default=0)
        row = EventHeader(guest=self.guest, epoch=self.epoch, seq=self.last + 1, prev=prev, time_ns=1, kind=kind)
        self.rows.append(row)
        return row

    @property
    def last(self) -> int:
        return self.rows[-1].seq if self.rows else self.trimmed

    def beacon(self) -> tuple[EventHeader, dict[str, Any]]:
        header = EventHeader(guest=self.guest, epoch=self.epoch, seq=self.last, prev=0, time_ns=1, kind="beacon")
        return header, {"last_seq_by_kind": {row.kind: row.seq for row in self.rows}}

    def answer(self, follow: Follow, ask: Ask, now_s: float, limit: int = 1000) -> list[Step]:
        if isinstance(ask, AskPlace):
            return follow.on_place(ask, Place(epoch=self.epoch, seq=self.last), now_s)
        if (ask.epoch and ask.epoch != self.epoch) or ask.after < self.trimmed:
            follow.on_failed(ask, error("cursor_too_old", "gone"), now_s)
            return []
        due = [row for row in self.rows if row.seq > ask.after][:limit]
        events = [(pack(row), pack({})) for row in due if not ask.kinds or row.kind in ask.kinds]
        reply = ReplayReply(epoch=self.epoch, events=events, upto=due[-1].seq if due else ask.after, last_seq=self.last)
        return follow.on_replay(ask, reply, now_s)


def settle(follow: Follow, journal: Journal, now_s: float, limit: int = 1000) -> tuple[list[Step], float]:
    """Answers whatever is asked until nothing is any more."""
    steps: list[Step] = []
    for _ in range(400):
        asks = follow.asks(now_s)
        for ask in asks:
            steps += journal.answer(follow, ask, now_s, limit)
        now_s += 0.2
    return steps, now_s


def seqs(steps: list[Step]) -> list[int]:
    return [step.header.seq for step in steps if isinstance(step, Event) and step.kind != "beacon"]


def started(want: Selection | None = None, journal: Journal | None = None) -> tuple[Follow, Journal]:
    journal = journal or Journal()
    follow = Follow(want or Selection(), 5.0, 0.0)
    follow.add_guest("g", Place(epoch=journal.epoch, seq=journal.last), 0.0)
    return follow, journal


def test_events_that_all_come_are_handed_on_without_asking_anything() -> None:
    follow, journal = started()
    steps = [step for _ in range(5) for step in follow.on_message(journal.record("exit"), {}, 0.1)]
    assert seqs(steps) == [1, 2, 3, 4, 5]
    assert follow.asks(0.1) == []


def test_a_hole_is_filled_from_the_journal_before_what_came_after_it() -> None:
    follow, journal = started()
    journal.record("exit")
    assert follow.on_message(journal.record("exit"), {}, 0.1) == []
    (ask,) = follow.asks(0.1)
    assert isinstance(ask, Replay) and ask.after == 0
    assert seqs(journal.answer(follow, ask, 0.2)) == [1, 2]


def test_a_lost_last_event_is_found_by_the_heartbeat_after_a_grace_time() -> None:
    follow, journal = started()
    journal.record("exit")
    assert seqs(follow.on_message(*journal.beacon(), 1.0)) == []
    assert follow.asks(1.1) == []
    (ask,) = follow.asks(1.3)
    assert seqs(journal.answer(follow, ask, 1.4)) == [1]


def test_an_event_that_was_only_late_is_not_asked_for() -> None:
    follow, journal = started()
    late = journal.record("exit")
    follow.on_message(*journal.beacon(), 1.0)
    assert seqs(follow.on_message(late, {}, 1.1)) == [1]
    assert follow.asks(2.0) == []


def test_a_guest_without_heartbeats_is_asked_after_two_of_them() -> None:
    follow, journal = started()
    journal.record("exit")
    assert follow.asks(9.0) == []
    steps, _ = settle(follow, journal, 10.0)
    assert seqs(steps) == [1]


def test_one_kind_of_one_guest_is_followed_by_prev_alone() -> None:
    want = Selection(kinds=frozenset({"exit"}), guests=frozenset({"g"}))
    follow, journal = started(want)
    assert want.prefixes()[1] == b"event/g/exit/"
    journal.record("started")
    assert seqs(follow.on_message(journal.record("exit"), {}, 0.1)) == [2]
    journal.record("exit")
    journal.record("oom")
    assert follow.on_message(journal.record("exit"), {}, 0.2) == []
    (ask,) = follow.asks(0.2)
    assert seqs(journal.answer(follow, ask, 0.3)) == [3, 5]
    assert follow.places == {"g": Place(epoch="e1", seq=5, mark=mark_of(journal.rows[-1]))}


def test_a_heartbeat_moves_the_cursor_over_events_that_are_not_wanted() -> None:
    follow, journal = started(Selection(kinds=frozenset({"exit"}), guests=frozenset({"g"})))
    journal.record("oom")
    assert follow.on_message(*journal.beacon(), 1.0) == [Advance("g", Place(epoch="e1", seq=1))]


def test_several_kinds_keep_their_order_even_if_the_first_is_lost() -> None:
    follow, journal = started(Selection(kinds=frozenset({"exit", "started"}), guests=frozenset({"g"})))
    journal.record("started")
    assert follow.on_message(journal.record("exit"), {}, 0.1) == []
    steps, _ = settle(follow, journal, 0.1)
    assert seqs(steps) == [1, 2]


def test_a_new_epoch_is_announced_and_read_from_its_beginning() -> None:
    follow, journal = started()
    follow.on_message(journal.record("exit"), {}, 0.1)
    old = journal.record("exit")
    fresh = Journal(epoch="e2")
    fresh.record("exit")
    steps = follow.on_message(fresh.record("exit"), {}, 0.2)
    assert [step for step in steps if isinstance(step, Resync)] == [Resync("g", "its journal began a new epoch", Place(epoch="e2", seq=0))]
    assert follow.on_message(old, {}, 0.3) == []
    steps, _ = settle(follow, fresh, 0.3)
    assert [(step.header.epoch, step.header.seq) for step in steps if isinstance(step, Event)] == [("e2", 1), ("e2", 2)]


def test_late_word_of_an_epoch_before_does_not_silence_the_present_one() -> None:
    journal = Journal(epoch="e2")
    journal.record("started")
    follow, _ = started(journal=journal)
    late = Journal(epoch="e1")  # the guest was set back while the stream was opened: this was on its way before
    assert [type(step) for step in follow.on_message(late.record("started"), {}, 1.0)] == [Resync, Event]
    steps, now_s = settle(follow, journal, 2.0)
    assert [step.place for step in steps if isinstance(step, Resync)] == [Place(epoch="e2", seq=1)]
    assert seqs(follow.on_message(journal.record("exit"), {}, now_s)) == [2]
    assert follow.places["g"].epoch == "e2"


def test_a_place_too_old_becomes_a_resync_and_the_stream_goes_on_from_now() -> None:
    journal = Journal(rows=[], trimmed=10)
    follow = Follow(Selection(start={"g": Place(epoch="e1", seq=3)}), 5.0, 0.0)
    follow.add_guest("g", None, 0.0)
    steps, now_s = settle(follow, journal, 0.0)
    assert [type(step) for step in steps] == [Resync]
    assert seqs(follow.on_message(journal.record("exit"), {}, now_s)) == [11]


def test_a_guest_that_appears_later_is_read_from_its_beginning_if_a_cursor_was_given() -> None:
    journal = Journal()
    follow = Follow(Selection(start={}), 5.0, 0.0)
    journal.record("started")
    assert seqs(follow.on_message(journal.record("exit"), {}, 1.0)) == []
    steps, _ = settle(follow, journal, 1.0)
    assert seqs(steps) == [1, 2]


def test_a_guest_that_appears_later_is_followed_from_its_first_event_otherwise() -> None:
    journal = Journal()
    follow = Follow(Selection(), 5.0, 0.0)
    journal.record("started")
    assert seqs(follow.on_message(journal.record("exit"), {}, 1.0)) == [2]


def test_events_missing_in_the_journal_itself_are_a_gap() -> None:
    follow, journal = started()
    for _ in range(4):
        journal.record("exit")
    del journal.rows[1:3]
    follow.on_message(journal.rows[-1], {}, 0.1)
    steps, _ = settle(follow, journal, 0.1)
    assert [step for step in steps if isinstance(step, EventGap)] == [EventGap("g", "e1", 2, 3, "not in the journal any more")]
    assert seqs(steps) == [1, 4]


def test_lost_word_of_guests_coming_and_going_is_a_gap_of_the_broker() -> None:
    follow = Follow(Selection(), 5.0, 0.0)

    def word(seq: int) -> EventHeader:
        return EventHeader(guest="g", epoch="b1", seq=seq, prev=seq - 1, time_ns=1, kind="guest_down")

    assert len(follow.on_message(word(1), {"reason": "x"}, 0.0)) == 1
    assert follow.on_message(word(1), {"reason": "x"}, 0.0) == []
    assert follow.on_message(word(4), {"reason": "x"}, 0.0) == []
    (ask,) = follow.brokers.asks()
    gap, event = follow.brokers.on_failed(ask, "bad_request")
    assert isinstance(gap, EventGap) and (gap.guest, gap.start, gap.end) == ("", 2, 3)
    assert isinstance(event, Event)


def test_a_guest_that_fails_to_answer_is_asked_ever_more_seldom() -> None:
    follow, journal = started()
    journal.record("exit")
    follow.on_message(journal.record("exit"), {}, 0.0)
    count, now_s = 0, 0.0
    while now_s < 60.0:
        for ask in follow.asks(now_s):
            count += 1
            follow.on_failed(ask, error("guest_unreachable", "down"), now_s)
        now_s += 0.05
    assert 8 <= count <= 13


STEP = st.sampled_from(["live", "lost", "twice", "late", "beacon", "answer", "fail", "time"])


@pytest.mark.guarantee(9)
@settings(max_examples=200, deadline=None)
@given(
    story=st.lists(st.tuples(STEP, st.sampled_from(KINDS)), max_size=60),
    kinds=st.sampled_from([None, frozenset({"exit"}), frozenset({"exit", "oom"})]),
    named=st.booleans(),
    limit=st.integers(1, 5),
)
def test_every_wanted_event_comes_exactly_once_and_in_order(
    story: list[tuple[str, str]], kinds: frozenset[str] | None, named: bool, limit: int
) -> None:
    follow, journal = started(Selection(kinds=kinds, guests=frozenset({"g"}) if named else None))
    steps: list[Step] = []
    late: list[EventHeader] = []
    now_s = 0.0

    def deliver(row: EventHeader) -> None:
        if follow.want.narrow and row.kind not in (kinds or ()):
            return  # not subscribed to
        steps.extend(follow.on_message(row, {}, now_s))

    for what, kind in story:
        now_s += 0.1
        if what in ("live", "lost", "twice", "late"):
            row = journal.record(kind)
            if what == "late":
                late.append(row)
            for _ in range({"live": 1, "twice": 2}.get(what, 0)):
                deliver(row)
        elif what == "beacon":
            steps += follow.on_message(*journal.beacon(), now_s)
        elif what == "time":
            now_s += 3.0
            for row in late:
                deliver(row)
            late.clear()
        for ask in follow.asks(now_s) if what in ("answer", "fail") else []:
            if what == "answer":
                steps += journal.answer(follow, ask, now_s, limit)
            else:
                follow.on_failed(ask, error("guest_unreachable", "down"), now_s)
    steps += follow.on_message(*journal.beacon(), now_s)
    settled, _ = settle(follow, journal, now_s, limit)
    steps += settled
    assert seqs(steps) == [row.seq for row in journal.rows if kinds is None or row.kind in kinds]
    assert not [step for step in steps if isinstance(step, EventGap | Resync)]
    assert follow.places["g"].seq == journal.last


def test_a_heartbeat_that_has_another_event_at_the_place_reached_makes_it_void() -> None:
    """The journal was set back and has come as far again, and no broker noticed."""
    follow, journal = started()
    follow.on_message(journal.record("exit"), {}, 0.1)
    header, data = journal.beacon()
    assert follow.on_message(header, {**data, "mark": mark_of(journal.rows[-1])}, 0.2) == []
    assert follow.asks(1.0) == []
    assert follow.on_message(header, {**data, "mark": mark_of(journal.rows[-1]) ^ 1}, 1.1) == []
    (ask,) = follow.asks(1.1)
    assert isinstance(ask, AskPlace)
    (resync,) = journal.answer(follow, ask, 1.2)
    assert isinstance(resync, Resync) and "set back" in resync.reason


def test_the_journal_is_asked_with_the_mark_of_the_event_that_was_handed_on_last() -> None:
    follow, journal = started()
    follow.on_message(journal.record("exit"), {}, 0.1)
    journal.record("exit")
    follow.on_message(journal.record("exit"), {}, 0.2)
    (ask,) = follow.asks(0.2)
    assert isinstance(ask, Replay) and (ask.after, ask.mark) == (1, mark_of(journal.rows[0]))
