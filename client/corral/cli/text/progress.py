"""A word for whoever has waited for a second, on stderr, where that is a terminal that can take it back."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status

QUIET_S = 1.0
TICK_S = 0.2


class Patience:
    """Shows `text()` with a spinner after a second in which nothing else was shown. `hide` before writing anything to a terminal."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._quiet_since_s = time.monotonic()
        self._status: Status | None = None

    def hide(self) -> None:
        """Takes it off the screen, to come back after the next quiet second."""
        self._quiet_since_s = time.monotonic()
        if self._status is not None:
            self._status.stop()
            self._status = None

    async def keep(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(TICK_S)
            if self._status is not None:
                self._status.update(self._shown())
            elif time.monotonic() - self._quiet_since_s >= QUIET_S:
                from corral.cli.text.output import console

                self._status = console(stderr=True).status(self._shown(), spinner="dots")
                self._status.start()

    def _shown(self) -> str:
        return self._text()[: max(20, _columns() - 4)]


@contextlib.asynccontextmanager
async def waiting(text: str | Callable[[], str]) -> AsyncIterator[Patience]:
    """While something is awaited that may take longer than a second."""
    from corral.cli.text.terminal import can_redraw

    patience = Patience((lambda: text) if isinstance(text, str) else text)
    keeping = asyncio.create_task(patience.keep()) if can_redraw(sys.stderr) else None
    try:
        yield patience
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        patience.hide()


def _columns() -> int:
    from corral.cli.text.terminal import size_of

    size = size_of(2)
    return size.columns if size else 80
