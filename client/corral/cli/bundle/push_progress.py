"""How a push shows itself: on a terminal a bar per guest, elsewhere nothing but the outcomes."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from corral.units import size_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from corral import PushProgress

SHOWN_MAX = 10
"""Guests shown at a time; those that are done make room."""
REFRESH_PER_S = 4
_WORDS = {"asking": "asking what it has", "sending": "", "finishing": "writing to its disk", "done": "done"}


class PushBars(AbstractContextManager["PushBars"]):
    """A context manager; `told` takes every PushProgress."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self._live = Live(self, console=console, refresh_per_second=REFRESH_PER_S, transient=True)
        self._guests: dict[str, PushProgress] = {}

    def told(self, progress: "PushProgress") -> None:
        self._guests[progress.guest] = progress

    def __enter__(self) -> "PushBars":
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        under_way = [one for one in self._guests.values() if one.state != "done"]
        grid = Table.grid(padding=(0, 1))
        for one in under_way[:SHOWN_MAX]:
            bar = ProgressBar(total=max(1, one.missing_bytes), completed=min(one.sent_bytes, one.missing_bytes), width=30)
            much = f"{size_text(one.sent_bytes)} of {size_text(one.missing_bytes)}" if one.missing_bytes else ""
            grid.add_row(Text(one.guest, style="bold"), bar, Text(much), Text(_WORDS[one.state], style="dim"))
        yield grid
        done = len(self._guests) - len(under_way)
        more = max(0, len(under_way) - SHOWN_MAX)
        yield Text(f"{done} done" + (f", {more} more under way" if more else ""), style="dim")
