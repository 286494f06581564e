"""A run, carried out: the cores' decisions to the joblog, to the disk, and to the guests, in that order."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from corral.batch.halting import Halt
from corral.batch.history import History, ends, exit_status, next_step, replay
from corral.batch.joblog import TSV_HEAD, Joblog, read_joblog, tsv_line
from corral.batch.moves import Abort, Action, Result, Send, Tally, Write
from corral.batch.perform import PATIENCE_S, Order, Performer
from corral.batch.plan import Plan, Step
from corral.batch.records import AnyRecord, Ended, Reopened, Resumed, RunBegan, RunEnded, StepBegan, StepEnded
from corral.batch.rundir import RunDir
from corral.batch.runner import StepRunner
from corral.batch.targets import targets_of
from corral.plain_text import count_text
from corral.selectors import parse_selector
from corral_schemas.errors import CorralError

if TYPE_CHECKING:
    from corral.async_client import AsyncClient
    from corral_schemas.queries import GuestInfo

GUESTS_LOOK_S = 2.0
"""Between two looks at which guests are up, while a step chooses among them."""


WAKE_S_MIN = 0.01


class NoTargetsError(Exception):
    """A step would have no targets, or names guests that are not there."""


class Watcher(Protocol):
    """Shows what goes on. Called in the run's event loop."""

    def step_began(self, step: Step, targets: int, runner: StepRunner) -> None: ...

    def sent(self, send: Send) -> None: ...

    def ended(self, ended: Ended) -> None: ...

    def step_ended(self, step: Step, tally: Tally) -> None: ...


@dataclass
class Options:
    """How to run; nothing of it is part of the plan."""

    halt: Halt | None = None
    patience_s: float = PATIENCE_S
    joblog_tsv: Path | None = None
    reopen: frozenset[str] = frozenset()
    """Outcomes whose targets are done again."""


@dataclass
class Summary:
    """How a run stands when its runner ends."""

    status: int
    """As GNU parallel's: 0, 1-100 targets that did not end ok, 101 for more; 255 when it was interrupted."""
    outcomes: dict[str, int]
    interrupted: bool
    failures: list[Ended] = field(default_factory=list)


def guests_of(step: Step, guests: "Sequence[GuestInfo]") -> "list[GuestInfo]":
    """Those the step selects. Raises NoTargetsError where that is none, or a name is not there."""
    selector = parse_selector(step.select)
    unknown = selector.unknown(guests)
    if unknown:
        name, nearest = next(iter(unknown.items()))
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        raise NoTargetsError(f"step {step.name}: there is no guest {name}{hint}")
    if not (found := selector.select(guests)):
        labels = sorted({label for info in guests for label in info.labels})
        near = get_close_matches(selector.conditions[0].label, labels, 1) if selector.conditions else []
        hint = f"; did you mean the label {near[0]!r}?" if near and selector.conditions[0].label not in labels else ""
        raise NoTargetsError(f"step {step.name}: {step.select!r} selects none of {count_text(len(guests), 'guest')}{hint}")
    return found


class Conductor:
    """One life of a run: from its beginning, or from where an earlier life ended."""

    def __init__(self, client: "AsyncClient", directory: RunDir, plan: Plan, options: Options, watcher: Watcher) -> None:
        self._client, self._directory, self._plan, self._options, self._watcher = client, directory, plan, options, watcher
        self._performer = Performer(client, directory.result_path, patience_s=options.patience_s)
        self._history: History = replay(read_joblog(directory.joblog)) if directory.joblog.exists() else History()
        self._joblog: Joblog | None = None
        self._runner: StepRunner | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}  # target number -> its attempt
        self._orders: dict[int, asyncio.Future[Order]] = {}
        self._done: asyncio.Queue[tuple[int, Result] | None] = asyncio.Queue()  # None: look again
        self._stopping = False
        self._failure: BaseException | None = None

    def drain(self) -> None:
        """Begin no more targets; the run ends when what is under way has ended, and can be resumed."""
        self._stopping = True
        if self._runner is not None:
            self._runner.drain()
        self._done.put_nowait(None)

    async def run(self) -> Summary:
        """Carries out what is left of the run. Cancelled, it stops at once; what is under way in guests goes on there, and whoever
        resumes asks about it. Raises CorralError of asking the broker, NoTargetsError, JoblogError, OSError."""
        self._joblog = Joblog(self._directory.joblog)
        try:
            self._take_up()
            while not self._stopping and (step := next_step(self._plan, self._history)) is not None:
                if not await self._step(step):
                    break
            return self._summary()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._joblog.sync()
            self._joblog.close()

    def _take_up(self) -> None:
        if not self._history.run:
            # Not the directory's name alone: another run in another directory of that name must not share its request ids.
            run = f"{self._directory.path.name}-{secrets.token_hex(8)}"
            self._write([RunBegan(time_ns=time.time_ns(), run=run, plan=self._directory.path.name)])
        else:
            self._write([Resumed(time_ns=time.time_ns(), pid=os.getpid())])
        for name, step in self._history.steps.items():
            again = [key for key, past in step.by_key.items() if past.ended and past.ended.outcome in self._options.reopen]
            self._write([Reopened(time_ns=time.time_ns(), step=name, key=key) for key in again])
        if self._options.joblog_tsv is not None and not self._options.joblog_tsv.exists():
            self._options.joblog_tsv.write_text(TSV_HEAD)

    # -- a step ------------------------------------------------------------------------------------------------------------------

    async def _step(self, step: Step) -> bool:
        """False when the run was told to stop before its end."""
        guests = await self._client.guests()
        targets = self._directory.targets(step.name)
        if targets is None:
            targets = targets_of(step, self._directory.items(step.name), guests_of(step, guests))
            self._directory.fix_targets(step.name, targets)
        past = self._history.step(step.name)
        if not past.began_ns:
            window = step.window.of(len(targets))
            self._write([StepBegan(time_ns=time.time_ns(), step=step.name, targets=len(targets), window=window)])
        runner = self._runner = StepRunner(
            self._history.run, step, targets, past, halt=self._options.halt, patience_s=self._options.patience_s
        )
        self._watcher.step_began(step, len(targets), runner)
        looking = asyncio.create_task(self._look_at_guests(step, runner)) if step.on == "any" else None
        try:
            await self._drive(step, runner, guests)
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
        self._watcher.step_ended(step, runner.tally)
        if runner.finished:
            self._write([StepEnded(time_ns=time.time_ns(), step=step.name, failures=runner.tally.not_ok, halted=runner.halted)])
        self._runner = None
        return runner.finished

    async def _drive(self, step: Step, runner: StepRunner, guests: "Sequence[GuestInfo]") -> None:
        if self._stopping:
            runner.drain()
        selected = parse_selector(step.select).select(guests)
        await self._carry_out(step, runner.begin(selected, _now_s(), time.time_ns()))
        while not (runner.finished or runner.drained):
            actions: list[Action] = []
            for number, result in await self._next_results(runner.next_wake_s()):
                self._orders.pop(number).cancel()
                del self._tasks[number]
                actions += runner.on_result(number, result, _now_s(), time.time_ns())
            await self._carry_out(step, actions + runner.on_time(_now_s(), time.time_ns()))

    async def _next_results(self, wake_s: float | None) -> list[tuple[int, Result]]:
        """At least one thing that happened, and all that happened by now; empty when it is time."""
        found: list[tuple[int, Result]] = []
        try:
            async with asyncio.timeout_at(None if wake_s is None else max(wake_s, _now_s() + WAKE_S_MIN)):
                first = await self._done.get()
        except TimeoutError:
            return found
        found += [first] if first is not None else []
        while not self._done.empty():
            following = self._done.get_nowait()
            found += [following] if following is not None else []
        if self._failure is not None:
            raise self._failure
        return found

    async def _carry_out(self, step: Step, actions: Sequence[Action]) -> None:
        """Writes, syncs where something is to be sent, then sends: one sync for all that has come together."""
        self._write([action.record for action in actions if isinstance(action, Write)], remembered=True)
        sends = [action for action in actions if isinstance(action, Send)]
        if any(not send.ask_first for send in sends) and self._joblog is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._joblog.sync)
        for send in sends:
            self._launch(step, send)
        for action in actions:
            if isinstance(action, Abort) and (order := self._orders.get(action.target.number)) is not None and not order.done():
                order.set_result(Order(action.reason, action.outcome))
            elif isinstance(action, Write) and isinstance(action.record, Ended):
                self._tell(step, action.record)

    def _launch(self, step: Step, send: Send) -> None:
        number = send.target.number
        order: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._orders[number] = order
        self._tasks[number] = asyncio.create_task(self._attempt(step, send, order))
        self._watcher.sent(send)

    async def _attempt(self, step: Step, send: Send, order: "asyncio.Future[Order]") -> None:
        try:
            self._done.put_nowait((send.target.number, await self._performer.perform(step, send, order)))
        except Exception as why:  # noqa: BLE001 - raised again where the run is driven, which ends by it
            self._failure = why
            self._done.put_nowait(None)

    async def _look_at_guests(self, step: Step, runner: StepRunner) -> None:
        selector = parse_selector(step.select)
        while True:
            await asyncio.sleep(GUESTS_LOOK_S)
            # A broker that is away is looked for again.
            with contextlib.suppress(CorralError):
                runner.on_guests(selector.select(await self._client.guests()))
                self._done.put_nowait(None)

    # -- records -----------------------------------------------------------------------------------------------------------------

    def _write(self, records: Sequence[AnyRecord], *, remembered: bool = False) -> None:
        """`remembered`: the core that made them has taken them into the history already."""
        if self._joblog is None or not records:
            return
        self._joblog.append(records)
        if not remembered:
            for record in records:
                self._history.add(record)

    def _tell(self, step: Step, ended: Ended) -> None:
        self._watcher.ended(ended)
        if self._options.joblog_tsv is not None:
            with self._options.joblog_tsv.open("a") as file:
                file.write(tsv_line(ended, _command(step, ended)))

    def _summary(self) -> Summary:
        found = ends(self._history)
        tally = Tally()
        for ended in found:
            tally.add(ended.outcome)
        over = next_step(self._plan, self._history) is None
        status = exit_status(tally.not_ok) if over else 255
        if over and self._history.status is None:
            self._write([RunEnded(time_ns=time.time_ns(), status=status)])
        return Summary(status, tally.by_outcome, not over, [ended for ended in found if ended.outcome != "ok"])


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _command(step: Step, ended: Ended) -> str:
    """For people: the program's words, or the op and its arguments."""
    spec = step.args.get("spec")
    words = spec.get("args") if isinstance(spec, dict) else None
    text = " ".join(words) if words else f"{step.op} {step.args.get('container', '')}".strip()
    return text.replace("{}", ended.item) if ended.item is not None else text
