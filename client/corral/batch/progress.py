"""How a run shows itself: live on a terminal, with those named that take longest; elsewhere failures and a summary, nothing else."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from corral.batch.moves import Send, Tally
from corral.batch.plan import Step
from corral.batch.records import OUTCOMES, Ended
from corral.batch.runner import StepRunner
from corral.plain_text import one_line
from corral.units import duration_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

LAGGARDS_SHOWN = 3
LAGGARD_AFTER_S = 3.0
FAILURES_SAID_MAX = 50
REFRESH_PER_S = 4
COLOURS = {"ok": "green", "skipped": "yellow", "unknown": "magenta"}


class Quiet:
    """Failures as they come, through `say`; every end also to `on_end`."""

    def __init__(self, say: Callable[[str], None], on_end: Callable[[Ended], None] | None = None) -> None:
        self._say, self._on_end = say, on_end
        self._said = 0

    def step_began(self, step: Step, targets: int, runner: StepRunner) -> None:
        return

    def sent(self, send: Send) -> None:
        return

    def ended(self, ended: Ended) -> None:
        if self._on_end is not None:
            self._on_end(ended)
        if ended.outcome in ("ok", "skipped"):
            return
        self._said += 1
        if self._said <= FAILURES_SAID_MAX:
            self._say(failure_text(ended))
        elif self._said == FAILURES_SAID_MAX + 1:
            self._say("further failures are not shown here: corral batch status lists them")

    def step_ended(self, step: Step, tally: Tally) -> None:
        return


class LiveProgress(Quiet, AbstractContextManager["LiveProgress"]):
    """On a terminal; a context manager."""

    def __init__(self, console: "Console", on_end: Callable[[Ended], None] | None = None) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(self, console=console, refresh_per_second=REFRESH_PER_S, transient=True)
        super().__init__(lambda text: self._print(text, "red"), on_end)
        self._step: Step | None = None
        self._runner: StepRunner | None = None
        self._targets = 0
        self._began_s = time.monotonic()
        self._since_s: dict[int, tuple[float, Send]] = {}

    def __enter__(self) -> "LiveProgress":
        if not self._console.is_dumb_terminal:  # it gets the lines alone
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def step_began(self, step: Step, targets: int, runner: StepRunner) -> None:
        self._step, self._runner, self._targets, self._began_s = step, runner, targets, time.monotonic()
        self._since_s.clear()

    def sent(self, send: Send) -> None:
        self._since_s[send.target.number] = (time.monotonic(), send)

    def ended(self, ended: Ended) -> None:
        self._since_s.pop(ended.number, None)
        super().ended(ended)

    def step_ended(self, step: Step, tally: Tally) -> None:
        took = duration_text(time.monotonic() - self._began_s)
        self._step = None
        self._print(f"{step.name}: {tally_text(tally.by_outcome)} in {took}", "yellow" if tally.not_ok else "green")

    def _print(self, text: str, style: str) -> None:
        """Above the live part. The style is the text's own: given to the console it would colour the live part too."""
        from rich.text import Text

        self._console.print(Text(text, style=style), soft_wrap=True)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._step is None or self._runner is None:
            return
        tally, elapsed_s = self._runner.tally, time.monotonic() - self._began_s
        head = Table.grid(padding=(0, 1))
        counts = Text.assemble(*((f"{count} {outcome} ", COLOURS.get(outcome, "red")) for outcome, count in _ordered(tally.by_outcome)))
        rate = f"{tally.total / elapsed_s:.1f}/s" if elapsed_s > 1 else ""
        bar = ProgressBar(total=max(1, self._targets), completed=tally.total, width=30)
        head.add_row(Text(self._step.name, style="bold"), bar, Text(f"{tally.total}/{self._targets}"), counts, Text(rate, style="dim"))
        yield head
        for since_s, send in self._laggards():
            where = "" if send.target.guest else f" on {send.sent.guest}"
            line = one_line(f"{send.target.shown}{where}: {duration_text(time.monotonic() - since_s)}")
            yield Text(f"  {line}"[: options.max_width], style="dim", no_wrap=True)

    def _laggards(self) -> list[tuple[float, Send]]:
        long_s = time.monotonic() - LAGGARD_AFTER_S
        under_way = {target.number for target in self._runner.under_way} if self._runner is not None else set()
        late = [(since_s, send) for number, (since_s, send) in self._since_s.items() if since_s < long_s and number in under_way]
        return sorted(late, key=lambda entry: entry[0])[:LAGGARDS_SHOWN]


def failure_text(ended: Ended) -> str:
    """One line: which target, how it ended, and why."""
    where = " ".join(part for part in (ended.guest, ended.item) if part) or f"#{ended.number}"
    again = f" (after {ended.attempts} attempts)" if ended.attempts > 1 else ""
    return one_line(f"{ended.step}: {where}: {ended.outcome}{f': {ended.reason}' if ended.reason else ''}{again}")


def tally_text(outcomes: dict[str, int]) -> str:
    """`997 ok, 2 failed, 1 unknown`"""
    return ", ".join(f"{count} {outcome}" for outcome, count in _ordered(outcomes)) or "no targets"


def _ordered(outcomes: dict[str, int]) -> list[tuple[str, int]]:
    return [(outcome, outcomes[outcome]) for outcome in OUTCOMES if outcomes.get(outcome)]
