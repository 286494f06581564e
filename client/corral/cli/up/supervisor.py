"""Children that are kept alive: the broker and the workers of `corral up`."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence

from corral.cli.text.failures import Failed, say

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
SHORT_LIFE_S = 5.0
"""A child that lived shorter than this when it died again is started again only after a pause, which doubles each time."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
PR_SET_PDEATHSIG = 1


class Child:
    """One subprocess that says on stdout when it is ready, and is started again whenever it dies. Its stderr is ours."""

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self.name = name
        self._argv = list(argv)
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started_s = 0.0

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Starts it and returns when it says that it is ready. Raises Failed where it ends before, or says nothing for READY_TIMEOUT_S."""
        await self._spawn()
        process = self._running()
        try:
            first = await asyncio.wait_for(_first_line(process), READY_TIMEOUT_S)
        except TimeoutError:
            raise Failed(f"{self.name} was not ready after {READY_TIMEOUT_S:.0f} s") from None
        if not first:
            status = await process.wait()
            raise Failed(
                f"{self.name} {_ending(status)} before it was ready", hint="what it said is above; `corral doctor` checks what is needed"
            )
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """SIGTERM, SIGKILL after STOP_TIMEOUT_S; it is not started again."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if not self.pid:
            return
        process = self._running()
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            say(f"{self.name} did not end within {STOP_TIMEOUT_S:.0f} s and was killed")
            with contextlib.suppress(ProcessLookupError):  # it ended this very moment
                process.kill()
            await process.wait()

    async def _keep(self) -> None:
        """Waits for it to die, and starts it again, for ever."""
        pause_s = 0.0
        while True:
            status = await _gone(self._running())
            short = time.monotonic() - self._started_s < SHORT_LIFE_S
            say(f"{self.name} {_ending(status)}; it is started again" + (f" in {pause_s:.1f} s" if short and pause_s else ""))
            if short and pause_s:
                await asyncio.sleep(pause_s)
            pause_s = min(max(FIRST_PAUSE_S, pause_s * 2), LONGEST_PAUSE_S) if short else 0.0
            await self._spawn()

    async def _spawn(self) -> None:
        self._started_s = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in our terminal is for us alone: we end things in order
            preexec_fn=_end_with_parent(),
        )

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process


def _end_with_parent() -> Callable[[], None]:
    """To be run in the child: it gets SIGTERM when we die without ending it, so that no broker or worker is left without its `up`."""
    library = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask_for_signal() -> None:
        library.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            os._exit(1)

    return ask_for_signal


async def _first_line(process: asyncio.subprocess.Process) -> bytes:
    return await process.stdout.readline() if process.stdout else b""


async def _gone(process: asyncio.subprocess.Process) -> int:
    """Its status, once it has ended. What it writes to stdout meanwhile is read and dropped: a full pipe would stop it."""

    async def drain() -> None:
        while process.stdout and await process.stdout.read(1 << 16):
            continue

    draining = asyncio.create_task(drain())
    try:
        return await process.wait()
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
