"""One step, from its targets to their ends: who goes next, within the window, and what follows from each outcome. No I/O.

Targets, outcomes and the time go in; records to be written and things to be done come out, in that order: a Send may only be carried
out when all records before it are on disk.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corral.batch.filling import FillError
from corral.batch.guests import Guests
from corral.batch.halting import Halt
from corral.batch.history import Past, StepPast
from corral.batch.moves import Abort, Action, Result, Send, Tally, Write
from corral.batch.plan import BACKOFF_MAX_S, Step
from corral.batch.records import TRIED_AGAIN, Ended, Outcome, Sent, Tried
from corral.batch.targets import Target, filled_args, request_id
from corral_schemas.queries import GuestInfo

MOVES_MAX = 5
"""How often a target of `any` whose command never left is given to a guest anew without that being a retry."""
NOBODY_UP_S = 30.0
"""How long `any` waits for a guest to come up before targets are unreachable."""


@dataclass(slots=True)
class _State:
    target: Target
    past: Past
    under_way: bool = False


class StepRunner:
    """Times: `now_s` is a monotonic clock's, `now_ns` the wall clock's, which only goes into records."""

    def __init__(
        self, run: str, step: Step, targets: Sequence[Target], past: StepPast, *, halt: Halt | None = None, patience_s: float = NOBODY_UP_S
    ) -> None:
        self._run, self._step, self._halt, self._patience_s = run, step, halt, patience_s
        self._states = {target.number: _State(target, past.past(target.key)) for target in targets}
        self.window: int = past.window or step.window.of(len(targets))
        self.tally: Tally = Tally()
        self._fresh: deque[int] = deque()  # numbers of targets never tried
        self._retries: list[tuple[float, int]] = []  # heap of (not before, number): tried, and to be tried again
        self._guests = Guests()
        self._nobody_since_s: float | None = None  # since when a target of `any` has waited for any guest to be up
        self._under_way = 0
        self._wave: set[int] = set()  # with a barrier: numbers of the present window, ended or not
        self._deadline_s: float | None = None
        self._draining = self._over = False  # told to begin no more; over: the targets left were skipped
        self.halted: bool = False
        """By `halt`."""
        self._interrupted: list[_State] = []
        for state in self._states.values():
            if state.past.ended is not None:
                self.tally.add(state.past.ended.outcome)
            elif state.past.sent is not None:
                self._interrupted.append(state)
            elif state.past.attempts:
                self._retries.append((0.0, state.target.number))
            else:
                self._fresh.append(state.target.number)

    # -- what is known -----------------------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> list[Target]:
        """Targets with an attempt under way."""
        return [state.target for state in self._states.values() if state.under_way]

    @property
    def under_way_count(self) -> int:
        return self._under_way

    @property
    def finished(self) -> bool:
        """Every target has its end."""
        return self.tally.total == len(self._states)

    @property
    def drained(self) -> bool:
        """Told to begin no more, and nothing is under way."""
        return self._draining and not self._under_way

    def next_wake_s(self) -> float | None:
        """When `on_time` wants to be called."""
        times = [self._deadline_s] if self._deadline_s is not None else []
        patience_over_s = 0.0 if self._nobody_since_s is None else self._nobody_since_s + self._patience_s
        if self._room():
            if patience_over_s and self._fresh and not self._barred():
                times.append(patience_over_s)
            if self._retries:
                times.append(max(patience_over_s, self._retries[0][0]))
        return min(times, default=None)

    # -- what happens ------------------------------------------------------------------------------------------------------------

    def begin(self, guests: Iterable[GuestInfo], now_s: float, now_ns: int) -> list[Action]:
        """First what an earlier life of this run had under way, then the next ones."""
        self.on_guests(guests)
        if self._step.step_timeout_s is not None:
            self._deadline_s = now_s + self._step.step_timeout_s
        actions: list[Action] = []
        for state in self._interrupted:
            sent = state.past.sent
            if sent is not None:
                self._take_up(state, sent.guest)
                self._wave.add(state.target.number)
                actions.append(Send(state.target, sent, ask_first=True))
        return actions + self._check_halt(now_ns) + self._fill(now_s, now_ns)

    def on_guests(self, guests: Iterable[GuestInfo]) -> None:
        """What the broker says of the step's guests now."""
        self._guests.learn(guests)

    def on_result(self, number: int, result: Result, now_s: float, now_ns: int) -> list[Action]:
        """An attempt's outcome."""
        state = self._states[number]
        sent = state.past.sent
        if not state.under_way or sent is None:
            return []
        state.under_way, state.past.sent = False, None
        self._under_way -= 1
        self._guests.give_back(sent.guest)
        actions = self._follow(state, result, sent.guest, now_s, now_ns)
        return actions + self._check_halt(now_ns) + self._fill(now_s, now_ns)

    def on_time(self, now_s: float, now_ns: int) -> list[Action]:
        """The time has come that `next_wake_s` named (or another one)."""
        actions: list[Action] = []
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._deadline_s = None
            reason = f"the step's time of {self._step.step_timeout_s:g} s was over"
            actions += self._skip_waiting(reason, now_ns) + self._abort_all(reason, "timeout")
        return actions + self._fill(now_s, now_ns)

    def drain(self) -> None:
        """Begin no more; what is under way goes on to its end, the rest is for who resumes."""
        self._draining = True

    # -- decisions ---------------------------------------------------------------------------------------------------------------

    def _follow(self, state: _State, result: Result, guest: str, now_s: float, now_ns: int) -> list[Action]:
        past = state.past
        never_left = result.outcome == "unreachable" and result.settled and self._step.on == "any" and guest
        if never_left:
            self._guests.not_reached(guest)
        if self._over:
            return [self._end(state, result, now_ns, guest)]
        if result.outcome == "unknown" and past.again_if_unknown:
            past.again_if_unknown = False
            return self._again(state, result, now_s, now_ns, wait_s=0.0, counted=False)
        if never_left and past.moves < MOVES_MAX:
            past.moves += 1
            return self._again(state, result, now_s, now_ns, wait_s=0.0, counted=False)
        if result.outcome in TRIED_AGAIN and result.settled and past.retries < self._step.retries:
            wait_s = min(self._step.backoff_s * 2**past.retries, BACKOFF_MAX_S)
            return self._again(state, result, now_s, now_ns, wait_s=wait_s, counted=True)
        return [self._end(state, result, now_ns, guest)]

    def _again(self, state: _State, result: Result, now_s: float, now_ns: int, *, wait_s: float, counted: bool) -> list[Action]:
        past = state.past
        past.retries += counted
        if counted:
            past.tried_guests.clear()
        heapq.heappush(self._retries, (now_s + wait_s, state.target.number))
        return [
            Write(
                Tried(
                    time_ns=now_ns,
                    step=self._step.name,
                    key=state.target.key,
                    attempt=past.attempts,
                    outcome=result.outcome,
                    reason=result.reason,
                    counted=counted,
                )
            )
        ]

    def _end(self, state: _State, result: Result, now_ns: int, guest: str) -> Write:
        target = state.target
        ended = Ended(
            time_ns=now_ns,
            step=self._step.name,
            key=target.key,
            number=target.number,
            outcome=result.outcome,
            guest=guest or target.guest,
            item=target.item,
            attempts=state.past.attempts,
            status=result.status,
            signal=result.signal,
            reason=result.reason,
            started_ns=result.started_ns,
            sent_bytes=result.sent_bytes,
            received_bytes=result.received_bytes,
        )
        state.past.ended = ended
        self.tally.add(result.outcome)
        return Write(ended)

    def _check_halt(self, now_ns: int) -> list[Action]:
        if self._halt is None or self.halted or not self._halt.reached(self.tally.failures, len(self._states)):
            return []
        self.halted = True
        reason = f"halted after {self.tally.failures} failed"
        return self._skip_waiting(reason, now_ns) + (self._abort_all(reason, "failed") if self._halt.now else [])

    def _skip_waiting(self, reason: str, now_ns: int) -> list[Action]:
        waiting = sorted([*self._fresh, *(number for _, number in self._retries)])
        self._fresh.clear()
        self._retries.clear()
        self._over = True
        return [self._end(self._states[number], Result("skipped", reason), now_ns, "") for number in waiting]

    def _abort_all(self, reason: str, outcome: Outcome) -> list[Action]:
        return [Abort(target, reason, outcome) for target in self.under_way]

    # -- who goes next -----------------------------------------------------------------------------------------------------------

    def _room(self) -> bool:
        return not self._draining and not self._over and self._under_way < self.window

    def _fill(self, now_s: float, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        while self._room() and self._somebody(now_s) and (number := self._next(now_s)) is not None:
            actions += self._launch(self._states[number], now_s, now_ns)
        return actions

    def _somebody(self, now_s: float) -> bool:
        """Whether there is a guest to give targets to, or no more use in waiting for one."""
        if self._step.on != "any" or self._guests.up() or not (self._fresh or self._retries):
            self._nobody_since_s = None
            return True
        if self._nobody_since_s is None:
            self._nobody_since_s = now_s
        return now_s >= self._nobody_since_s + self._patience_s

    def _next(self, now_s: float) -> int | None:
        """Retries whose time has come first; with a barrier, others only while the present window is not full or has ended."""
        if self._retries and self._retries[0][0] <= now_s:
            return heapq.heappop(self._retries)[1]
        if not self._fresh:
            return None
        if self._barred():
            return None
        if self._step.barrier:
            if self._wave_over():
                self._wave.clear()
            self._wave.add(self._fresh[0])
        return self._fresh.popleft()

    def _barred(self) -> bool:
        """Whether those never tried have to wait for the end of the present window."""
        return self._step.barrier and len(self._wave) >= self.window and not self._wave_over()

    def _wave_over(self) -> bool:
        return all(self._states[number].past.ended for number in self._wave)

    def _launch(self, state: _State, now_s: float, now_ns: int) -> list[Action]:
        guest = state.target.guest or self._guests.least_loaded(state.past.tried_guests)
        if not guest:
            none_up = Result("unreachable", "none of the guests selected is up")
            return [*self._follow(state, none_up, "", now_s, now_ns), *self._check_halt(now_ns)]
        attempt = state.past.attempts + 1
        request = request_id(self._run, state.target.key, attempt)
        info = self._guests.info(guest)
        try:
            labels = state.target.labels or (info.labels if info is not None else {})
            args = filled_args(self._step, state.target, guest, labels, request)
        except FillError as why:
            return [self._end(state, Result("failed", str(why)), now_ns, guest), *self._check_halt(now_ns)]
        sent = Sent(
            time_ns=now_ns,
            step=self._step.name,
            key=state.target.key,
            number=state.target.number,
            attempt=attempt,
            guest=guest,
            request=request,
            epoch=info.epoch if info is not None else "",
            args=args,
        )
        state.past.attempts, state.past.sent, state.past.last = attempt, sent, sent
        self._take_up(state, guest)
        return [Write(sent), Send(state.target, sent, ask_first=False)]

    def _take_up(self, state: _State, guest: str) -> None:
        state.under_way = True
        state.past.tried_guests.add(guest)
        self._under_way += 1
        self._guests.take(guest)
