"""Guests that come and go, as a reader is given them: each once and in order, or word of what is missing."""

from hypothesis import given
from hypothesis import strategies as st

from corral.core.broker_feed import BrokerFeeds, BrokerReplay
from corral.core.items import Event, EventGap, Step
from corral.core.selection import selection
from corral_schemas.events import EventHeader, GuestDown
from corral_schemas.frames import decode_event, pack
from corral_schemas.queries import ReplayReply

EPOCH = "b1"


def header(seq: int, prev: int = 0, guest: str = "g", epoch: str = EPOCH) -> EventHeader:
    return EventHeader(guest=guest, epoch=epoch, seq=seq, prev=prev, worker="w", time_ns=seq, kind="guest_down")


def feeds(*guests: str) -> BrokerFeeds:
    return BrokerFeeds(selection(None, guests or None, None, None, True, False))


class Broker:
    """Keeps what it said, `oldest` and later, and answers with `page` events at most."""

    def __init__(self, headers: list[EventHeader], oldest: int = 1, page: int = 3) -> None:
        self.headers, self.oldest, self.page = headers, oldest, page

    def answer(self, reader: BrokerFeeds, ask: BrokerReplay) -> list[Step]:
        last = self.headers[-1].seq
        if ask.after and ask.after < self.oldest - 1:
            return reader.on_failed(ask, "cursor_too_old")
        found = [one for one in self.headers if one.seq >= max(self.oldest, ask.after + 1)]
        frames = [(pack(one), pack(GuestDown(reason="x"))) for one in found[: self.page]]
        upto = found[self.page - 1].seq if len(found) > self.page else last
        reply = ReplayReply(epoch=EPOCH, events=frames, upto=upto, last_seq=last)
        return reader.on_replay(ask, reply, [decode_event([b"", *pair]) for pair in frames])


def settled(reader: BrokerFeeds, broker: Broker) -> list[Step]:
    """What comes once every question is answered."""
    steps: list[Step] = []
    while asks := reader.asks():
        for ask in asks:
            steps += broker.answer(reader, ask)
    return steps


def seqs(steps: list[Step]) -> list[int]:
    return [step.header.seq for step in steps if isinstance(step, Event)]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40), st.booleans())
def test_each_comes_once_and_in_order_whatever_is_lost_or_comes_twice(fates: list[tuple[bool, bool, bool]], from_beginning: bool) -> None:
    reader, steps = feeds(), list[Step]()
    said = [header(seq) for seq in range(1, len(fates) + 2)]
    if from_beginning:
        reader.begin(EPOCH, 0, 1)
    else:
        reader.settle(EPOCH, 0)
    for number, (arrives, twice, answered) in enumerate([*fates, (True, False, True)], 1):
        for _ in range(arrives + twice):
            steps += reader.on_event(said[number - 1], {"reason": "x"})[1]
        if answered:
            steps += settled(reader, Broker(said[:number]))
    steps += settled(reader, Broker(said))
    assert seqs(steps) == [one.seq for one in said] and not any(isinstance(step, EventGap) for step in steps)


def test_a_reader_of_one_guest_finds_out_by_prev_and_is_given_that_guest_alone() -> None:
    said = [header(1, 0, "a"), header(2, 0, "g"), header(3, 0, "b"), header(4, 2, "g"), header(5, 4, "g")]
    reader = feeds("g")
    assert seqs(reader.on_event(said[1], {"reason": "x"})[1]) == [2]
    assert reader.on_event(said[4], {"reason": "x"}) == (True, [])
    assert seqs(settled(reader, Broker(said))) == [4, 5]


def test_what_is_no_longer_kept_is_a_gap_and_the_rest_comes() -> None:
    said = [header(seq) for seq in range(1, 11)]
    reader = feeds()
    reader.begin(EPOCH, 2, 10)
    gap, *rest = settled(reader, Broker(said, oldest=6))
    assert isinstance(gap, EventGap) and (gap.guest, gap.start, gap.end) == ("", 3, 5)
    assert seqs(rest) == [6, 7, 8, 9, 10]


def test_seqs_that_a_broker_left_out_are_a_gap() -> None:
    said = [header(1), header(1_000), header(1_001)]
    reader = feeds()
    reader.begin(EPOCH, 1, 1_001)
    gap, *rest = settled(reader, Broker(said))
    assert isinstance(gap, EventGap) and (gap.start, gap.end) == (2, 999) and seqs(rest) == [1_000, 1_001]


def test_a_broker_that_keeps_nothing_leaves_a_gap_and_what_came_is_handed_on() -> None:
    reader = feeds()
    reader.settle(EPOCH, 3)
    assert reader.on_event(header(6), {"reason": "x"}) == (True, [])
    (ask,) = reader.asks()
    gap, event = reader.on_failed(ask, "bad_request")
    assert isinstance(gap, EventGap) and (gap.start, gap.end) == (4, 5) and seqs([event]) == [6]
    reader.begin("other", 0, 7)
    (ask,) = reader.asks()
    (gap,) = reader.on_failed(ask, "bad_request")
    assert isinstance(gap, EventGap) and (gap.epoch, gap.start, gap.end) == ("other", 1, 7)
    assert seqs(reader.on_event(header(8, epoch="other"), {"reason": "x"})[1]) == [8]
