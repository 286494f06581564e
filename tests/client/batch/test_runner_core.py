"""The decisions of one step: whatever comes, and however often the runner dies, each target ends once and nothing is sent twice."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.batch.halting import Halt, parse_halt
from corral.batch.history import StepPast, replay
from corral.batch.moves import Abort, Action, Result, Send, Write
from corral.batch.plan import Step, Window
from corral.batch.records import TRIED_AGAIN, AnyRecord, Ended, Outcome, Sent, StepBegan, Tried
from corral.batch.runner import MOVES_MAX, NOBODY_UP_S, StepRunner
from corral.batch.targets import Target, targets_of
from corral_schemas.queries import GuestInfo

LIKELY: list[Outcome] = ["ok", "ok", "ok", "failed", "timeout", "unreachable", "unknown"]
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(LIKELY)


def make_step(
    *, on: str = "any", window: int = 4, retries: int = 0, barrier: bool = False, step_timeout_s: float | None = None, args: str = "{}"
) -> Step:
    return Step(
        name="s",
        op="run",
        args={"spec": {"rootfs": "/r", "args": ["echo", args]}},
        select="all",
        items=["x"],
        on="any" if on == "any" else "each",
        detach=False,
        window=Window(window),
        barrier=barrier,
        timeout_s=None,
        step_timeout_s=step_timeout_s,
        retries=retries,
        backoff_s=1.0,
        on_failure="stop",
    )


def guests(up: int, down: int = 0) -> list[GuestInfo]:
    return [GuestInfo(guest=f"g{n}", up=n < up, worker="", epoch="e") for n in range(up + down)]


@dataclass
class World:
    """Carries out what the runner says, keeps the joblog, and counts; it outlives any runner."""

    step: Step
    targets: list[Target]
    fleet: list[GuestInfo]
    halt: Halt | None = None
    log: list[AnyRecord] = field(default_factory=list)
    under_way: dict[int, Sent] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    most: int = 0
    now_s: float = 0.0
    aborted: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        window = self.step.window.of(len(self.targets))
        self.log.append(StepBegan(time_ns=1, step="s", targets=len(self.targets), window=window))
        self.live()

    def live(self) -> None:
        """A runner begins (or goes on) from the joblog alone."""
        past = replay(self.log).steps.get("s", StepPast())
        self.runner = StepRunner("run-1", self.step, self.targets, past, halt=self.halt)
        asked = dict(self.under_way)
        self.carry_out(self.runner.begin(self.fleet, self.now_s, 1), asked)
        assert not asked, "something under way was forgotten"

    def carry_out(self, actions: list[Action], asked: dict[int, Sent] | None = None) -> None:
        written: set[str] = {record.request for record in self.log if isinstance(record, Sent)}
        for action in actions:
            if isinstance(action, Write):
                self.log.append(action.record)
                written |= {action.record.request} if isinstance(action.record, Sent) else set()
            elif isinstance(action, Abort):
                self.aborted.add(action.target.number)
            elif action.ask_first:
                assert asked is not None
                assert asked.pop(action.target.number) == action.sent
            else:
                assert action.sent.request in written, "sent before it was in the joblog"
                assert action.sent.request not in self.begun, "run twice"
                self.begun.append(action.sent.request)
                self.under_way[action.target.number] = action.sent
        self.most = max(self.most, len(self.under_way))

    def answer(self, number: int, result: Result) -> None:
        del self.under_way[number]
        self.carry_out(self.runner.on_result(number, result, self.now_s, 1))

    def wait(self) -> None:
        wake_s = self.runner.next_wake_s()
        if wake_s is not None:
            self.now_s = max(self.now_s, wake_s)
            self.carry_out(self.runner.on_time(self.now_s, 1))

    def finish(self) -> None:
        """Everything that is still under way, or to come, goes well."""
        for _ in range(200):
            for number in list(self.under_way):
                self.answer(number, Result("ok"))
            self.wait()
        assert self.runner.finished, "some targets never end"

    @property
    def ended(self) -> list[Ended]:
        return [record for record in self.log if isinstance(record, Ended)]

    def outcomes(self) -> dict[str, int]:
        return {name: sum(record.outcome == name for record in self.ended) for name in {record.outcome for record in self.ended}}


def world(count: int, step: Step, up: int = 3, down: int = 0, halt: str = "") -> World:
    fleet = guests(up, down)
    targets = targets_of(step, [str(n) for n in range(count)], fleet)
    return World(step, targets, fleet, parse_halt(halt) if halt else None)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_each_target_ends_once_whatever_comes_and_however_often_the_runner_dies(data: st.DataObject) -> None:
    step = make_step(
        on=data.draw(st.sampled_from(["any", "each"])),
        window=data.draw(st.integers(1, 6)),
        retries=data.draw(st.integers(0, 2)),
        barrier=data.draw(st.booleans()),
        step_timeout_s=data.draw(st.sampled_from([None, None, 3.0])),
    )
    halt = data.draw(st.sampled_from(["", "", "soon,fail=2", "now,fail=20%"]))
    run = world(data.draw(st.integers(1, 8)), step, data.draw(st.integers(0, 3)), data.draw(st.integers(1, 2)), halt)
    for _ in range(data.draw(st.integers(0, 60))):
        what = data.draw(st.sampled_from(["answer", "answer", "answer", "wait", "kill"]))
        if what == "kill":
            run.live()
        elif what == "answer" and run.under_way:
            number = data.draw(st.sampled_from(sorted(run.under_way)))
            run.answer(number, Result(data.draw(OUTCOMES), settled=data.draw(st.booleans())))
        else:
            run.wait()
    run.finish()
    assert run.most <= step.window.count, "the window was exceeded"
    assert sorted(record.number for record in run.ended) == [target.number for target in run.targets]
    assert len(set(run.begun)) == len(run.begun)
    assert not run.under_way


@settings(max_examples=100, deadline=None)
@given(st.lists(OUTCOMES, min_size=1, max_size=6), st.integers(0, 3))
def test_only_what_failed_for_certain_is_tried_again_and_never_more_often_than_said(outcomes: list[Outcome], retries: int) -> None:
    run = world(1, make_step(on="each", retries=retries), up=1)
    given_so_far: list[Outcome] = []
    for outcome in outcomes:
        while not run.under_way and not run.runner.finished:
            run.wait()
        if run.runner.finished:
            break
        given_so_far.append(outcome)
        run.answer(1, Result(outcome))
    assert len(run.begun) <= retries + 1
    assert all(outcome in TRIED_AGAIN for outcome in given_so_far[:-1])
    if run.runner.finished:
        assert run.ended[0].outcome == given_so_far[-1]
        assert run.ended[0].attempts == len(given_so_far)


def test_pauses_between_retries_grow() -> None:
    run = world(1, make_step(on="each", retries=3), up=1)
    begun_s = []
    while not run.runner.finished:
        begun_s.append(run.now_s)
        run.answer(1, Result("failed"))
        run.wait()
    assert begun_s == [0.0, 1.0, 3.0, 7.0]


def test_behind_a_barrier_the_next_wake_is_the_retry_that_is_waited_for() -> None:
    run = world(2, make_step(on="any", window=1, retries=1, barrier=True), up=0, down=1)
    run.wait()  # nobody came up in time: the first target's first attempt is over, the second target is behind the barrier
    assert run.runner.next_wake_s() == run.now_s + 1.0
    run.finish()


def test_a_retry_waits_outside_the_window() -> None:
    run = world(3, make_step(window=1, retries=1), up=1)
    run.answer(1, Result("failed"))
    assert list(run.under_way) == [2]


def test_with_a_barrier_a_window_ends_whole_before_the_next_begins() -> None:
    run = world(5, make_step(window=2, barrier=True, retries=1), up=1)
    run.answer(2, Result("ok"))
    assert list(run.under_way) == [1]
    run.answer(1, Result("failed"))
    assert not run.under_way
    run.wait()
    assert list(run.under_way) == [1]
    run.answer(1, Result("ok"))
    assert sorted(run.under_way) == [3, 4]


def test_any_goes_where_there_is_least_to_do_and_never_to_a_guest_that_is_down() -> None:
    run = world(7, make_step(window=6), up=3, down=2)
    assert sorted(sent.guest for sent in run.under_way.values()) == ["g0", "g0", "g1", "g1", "g2", "g2"]
    number = next(number for number, sent in run.under_way.items() if sent.guest == "g1")
    run.answer(number, Result("ok"))
    assert run.under_way[7].guest == "g1"


def test_what_never_reached_its_guest_goes_to_another_one_and_costs_no_retry() -> None:
    run = world(1, make_step(), up=3)
    seen = []
    while run.under_way:
        seen.append(run.under_way[1].guest)
        run.answer(1, Result("unreachable"))
    assert sorted(seen) == ["g0", "g1", "g2"]
    assert not run.runner.finished
    run.wait()
    assert run.outcomes() == {"unreachable": 1}
    assert [record.counted for record in run.log if isinstance(record, Tried)] == [False, False, False]


def test_what_may_have_reached_its_guest_goes_nowhere_else() -> None:
    run = world(1, make_step(retries=5), up=3)
    run.answer(1, Result("unknown", settled=False))
    assert run.runner.finished
    assert run.outcomes() == {"unknown": 1}


def test_with_nobody_up_targets_wait_a_while_and_go_on_when_somebody_comes() -> None:
    run = world(3, make_step(window=2), up=0, down=2)
    assert not run.under_way
    run.now_s = NOBODY_UP_S - 1
    run.runner.on_guests(guests(1))
    run.carry_out(run.runner.on_time(run.now_s, 1))
    assert len(run.under_way) == 2


def test_a_guest_that_comes_and_goes_gets_a_target_only_so_often() -> None:
    run = world(1, make_step(), up=1)
    while run.under_way:
        run.answer(1, Result("unreachable"))
        run.runner.on_guests(guests(1))
        run.carry_out(run.runner.on_time(run.now_s, 1))
    assert len(run.begun) == MOVES_MAX + 1
    assert run.outcomes() == {"unreachable": 1}


def test_with_nobody_up_for_long_targets_are_unreachable() -> None:
    run = world(3, make_step(), up=0, down=2)
    run.wait()
    assert run.runner.finished
    assert run.outcomes() == {"unreachable": 3}
    assert not run.begun


def test_halt_soon_skips_the_rest_and_lets_what_runs_end() -> None:
    run = world(10, make_step(window=3), halt="soon,fail=2")
    run.answer(1, Result("failed"))
    run.answer(2, Result("failed"))
    assert not run.aborted
    assert len(run.under_way) == 2
    for number in list(run.under_way):
        run.answer(number, Result("ok"))
    assert run.runner.finished
    assert run.runner.halted
    assert run.outcomes() == {"failed": 2, "ok": 2, "skipped": 6}


def test_halt_now_kills_what_runs() -> None:
    run = world(10, make_step(window=3), halt="now,fail=10%")
    run.answer(1, Result("failed"))
    assert run.aborted == {2, 3}


def test_at_the_step_s_end_in_time_what_runs_is_killed_and_the_rest_is_skipped() -> None:
    run = world(4, make_step(window=2, step_timeout_s=5.0))
    run.wait()
    assert run.aborted == {1, 2}
    run.answer(1, Result("timeout"))
    run.answer(2, Result("timeout"))
    assert run.outcomes() == {"timeout": 2, "skipped": 2}


def test_drained_it_begins_no_more_and_leaves_the_rest_open() -> None:
    run = world(5, make_step(window=2, retries=3))
    run.runner.drain()
    run.answer(1, Result("ok"))
    run.answer(2, Result("failed"))
    assert run.runner.drained
    assert not run.runner.finished
    assert run.outcomes() == {"ok": 1}
    run.live()
    run.wait()
    assert sorted(run.under_way) == [2, 3]


def test_a_label_that_is_not_there_fails_the_target_without_sending_anything() -> None:
    run = world(1, make_step(on="each", args="{label.zone}"), up=2)
    assert run.runner.finished
    assert run.outcomes() == {"failed": 2}
    assert not run.begun
    assert "no label 'zone'" in run.ended[0].reason


def test_equal_items_are_targets_of_their_own() -> None:
    targets = targets_of(make_step(), ["a", "a", "b", "a"], guests(1))
    assert len({target.key for target in targets}) == 4
    assert [target.key for target in targets] == [target.key for target in targets_of(make_step(), ["a", "a", "b", "a"], guests(1))]


def test_a_send_is_told_with_its_record_first() -> None:
    step = make_step()
    runner = StepRunner("r", step, targets_of(step, ["a"], guests(1)), StepPast())
    kinds = [type(action) for action in runner.begin(guests(1), 0.0, 1)]
    assert kinds == [Write, Send]


@pytest.mark.parametrize("text", ["now", "fail=1", "now,fail=0", "soon,fail=1.5", "soon,fail=101%", "later,fail=1", "now,fail=-1"])
def test_a_halt_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not such as"):
        parse_halt(text)
