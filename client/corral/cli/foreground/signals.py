"""Signals sent to this command while a process is in the foreground: kept in order, to be passed on to the process."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

import click

from corral.cli.text.failures import INTERRUPTED, say

T = TypeVar("T")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
INSISTING = (signal.SIGINT, signal.SIGTERM)
INSIST_COUNT = 3
INSIST_WITHIN_S = 2.0


class Insistence:
    """Tells when somebody wants out: INSIST_COUNT of INSISTING within INSIST_WITHIN_S."""

    def __init__(self) -> None:
        self._recent_s: list[float] = []

    def add(self, number: int, now_s: float) -> bool:
        """True with the signal that makes it enough."""
        if number not in INSISTING:
            return False
        self._recent_s = [*(t for t in self._recent_s if now_s - t < INSIST_WITHIN_S), now_s]
        return len(self._recent_s) >= INSIST_COUNT


class SignalInbox:
    """Context manager in a running event loop. A signal that was ignored when we were started (nohup, a job in the background) stays so."""

    def __init__(self, *, passed_on: bool) -> None:
        self._numbers = [s for s in PASSED_ON if passed_on and signal.getsignal(s) is not signal.SIG_IGN]
        self._came: asyncio.Queue[int] = asyncio.Queue()
        self.insistence = Insistence()
        self.resized = asyncio.Event()

    def __enter__(self) -> "SignalInbox":
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            loop.add_signal_handler(number, self._came.put_nowait, int(number))
        loop.add_signal_handler(signal.SIGWINCH, self.resized.set)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (*self._numbers, signal.SIGWINCH):
            loop.remove_signal_handler(number)

    async def next(self) -> tuple[int, bool]:
        """The next signal, and whether the sender insists by now."""
        number = await self._came.get()
        return number, self.insistence.add(number, time.monotonic())

    async def during(self, making: Coroutine[Any, Any, T], what: str) -> T:
        """Awaits what makes the process. Signals that come meanwhile are kept for it; insisting gives up with status 130."""
        task = asyncio.create_task(making)
        kept: list[int] = []
        try:
            while True:
                waiting = asyncio.create_task(self.next())
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    number, insists = waiting.result()
                    kept.append(number)
                    if insists and not task.done():
                        say(f"gave up on {what}, which may have started or may still do so", hint="corral ps -a")
                        raise click.exceptions.Exit(INTERRUPTED)
                else:
                    waiting.cancel()
                if task.done():
                    return task.result()
        finally:
            task.cancel()
            for number in kept:
                self._came.put_nowait(number)
