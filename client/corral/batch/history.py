"""What a joblog says about where a run stands: a fold over its records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from corral.batch.plan import Plan, Step, handler_of
from corral.batch.records import AnyRecord, Ended, Reopened, RunBegan, RunEnded, Sent, StepBegan, StepEnded, Tried
from corral.batch.targets import Target


@dataclass(slots=True)
class Past:
    """One target so far."""

    attempts: int = 0
    retries: int = 0
    """Attempts that count against the step's retries."""
    sent: Sent | None = None
    """Sent, and nothing known since: the guest is asked first."""
    last: Sent | None = None
    """The last that was sent, whatever came of it."""
    ended: Ended | None = None
    tried_guests: set[str] = field(default_factory=set)
    moves: int = 0
    """Attempts that never left for their guest."""
    again_if_unknown: bool = False
    """A person has decided that it is to be done again if the guest still cannot tell."""


@dataclass(slots=True)
class StepPast:
    """One step so far."""

    targets: int = 0
    window: int = 0
    began_ns: int = 0
    ended: bool = False
    failures: int = 0
    halted: bool = False
    by_key: dict[str, Past] = field(default_factory=dict)

    def past(self, key: str) -> Past:
        return self.by_key.setdefault(key, Past())


@dataclass(slots=True)
class History:
    """A run so far."""

    run: str = ""
    plan: str = ""
    began_ns: int = 0
    last_ns: int = 0
    status: int | None = None
    """Exit status, once it has ended (and nothing was reopened since)."""
    steps: dict[str, StepPast] = field(default_factory=dict)

    def step(self, name: str) -> StepPast:
        return self.steps.setdefault(name, StepPast())

    def add(self, record: AnyRecord) -> None:
        """One more record, in the order of the joblog."""
        self.last_ns = record.time_ns
        if isinstance(record, RunBegan):
            self.run, self.plan, self.began_ns = record.run, record.plan, record.time_ns
        elif isinstance(record, StepBegan):
            step = self.step(record.step)
            step.targets, step.window, step.began_ns = record.targets, record.window, record.time_ns
        elif isinstance(record, StepEnded):
            step = self.step(record.step)
            step.ended, step.failures, step.halted = True, record.failures, record.halted
        elif isinstance(record, RunEnded):
            self.status = record.status
        elif isinstance(record, Sent | Tried | Ended | Reopened):
            self._of_target(record)

    def _of_target(self, record: Sent | Tried | Ended | Reopened) -> None:
        step = self.step(record.step)
        past = step.past(record.key)
        if isinstance(record, Sent):
            past.sent = past.last = record
            past.attempts = record.attempt
            past.tried_guests.add(record.guest)
        elif isinstance(record, Tried):
            past.sent = None
            past.retries += record.counted
            past.moves += not record.counted and record.outcome == "unreachable"
            if record.counted:
                past.tried_guests = set()
            past.again_if_unknown = past.again_if_unknown and record.outcome != "unknown"
        elif isinstance(record, Ended):
            past.sent, past.ended = None, record
        else:
            was_unknown = past.ended is not None and past.ended.outcome == "unknown"
            past.sent = past.last if was_unknown else None
            past.ended, past.retries, past.moves, past.tried_guests, past.again_if_unknown = None, 0, 0, set(), was_unknown
            step.ended, self.status = False, None


def replay(records: Iterable[AnyRecord]) -> History:
    history = History()
    for record in records:
        history.add(record)
    return history


def next_step(plan: Plan, history: History) -> Step | None:
    """The step to begin or to go on with; None when the run is over. Handlers run only after a failure of their step, and end the run."""
    for step in plan.steps:
        if step.name in plan.handlers:
            continue
        past = history.steps.get(step.name)
        if past is None or not past.ended:
            return step
        if past.halted:
            return None
        if past.failures and step.on_failure != "continue":
            return _handler_to_run(plan, history, step)
    return None


def _handler_to_run(plan: Plan, history: History, step: Step) -> Step | None:
    failed: Step | None = step
    while failed is not None and (name := handler_of(failed.on_failure)):
        past = history.steps.get(name)
        if past is None or not past.ended:
            return plan.step(name)
        failed = plan.step(name) if past.failures else None
    return None


def ends(history: History) -> list[Ended]:
    """The terminal records that stand."""
    return [past.ended for step in history.steps.values() for past in step.by_key.values() if past.ended is not None]


def exit_status(failures: int) -> int:
    """As GNU parallel's: how many did not end ok, up to 100; 101 for more."""
    return min(failures, 101)


def open_targets(targets: Sequence[Target], past: StepPast) -> list[Target]:
    """Those without an end."""
    return [target for target in targets if target.key not in past.by_key or past.by_key[target.key].ended is None]
