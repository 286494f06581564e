"""The two ends of this process's own streams, each behind a thread: a reader or writer that stalls never stops the event loop.

The threads are daemons: one that is stuck in a read or a write when the command ends does not hold it up.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable

READ_BYTES = 64 << 10


class DescriptorWriter:
    """Writes to descriptors in order. `write` returns once the bytes were taken; raises BrokenPipeError, OSError."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[int, bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="corral-output", daemon=True).start()

    async def write(self, descriptor: int, data: bytes) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((descriptor, data, done))
        await done

    def close(self) -> None:
        """Ends the thread once it has written what it was given."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            descriptor, data, done = job
            failure: OSError | None = None
            try:
                write_all(descriptor, data)
            except OSError as why:
                failure = why
            if not _tell(self._loop, lambda done=done, failure=failure: _settle(done, failure)):  # type: ignore[misc]
                return


class DescriptorReader:
    """Reads a descriptor until its end: `read` gives bytes, empty at the end. One read ahead at most, none before the first call."""

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._wanted: queue.SimpleQueue[asyncio.Future[bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="corral-input", daemon=True).start()

    async def read(self) -> bytes:
        """The next bytes; empty at the end, and where the terminal has gone (EIO)."""
        got: asyncio.Future[bytes] = self._loop.create_future()
        self._wanted.put(got)
        return await got

    def _work(self) -> None:
        data = b"?"
        while data:
            got = self._wanted.get()
            try:
                data = os.read(self._descriptor, READ_BYTES)
            except OSError:  # the terminal hung up, or the descriptor is closed: the end of the input either way
                data = b""
            if not _tell(self._loop, lambda got=got, data=data: got.done() or got.set_result(data)):  # type: ignore[misc]
                return


def write_all(descriptor: int, data: bytes) -> None:
    """Writes everything, however often the kernel takes only a part of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _settle(done: "asyncio.Future[None]", failure: OSError | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """False once the loop is closed: the command has ended and nobody waits any more."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True
