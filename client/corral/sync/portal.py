"""The one thread behind a synchronous client: an asyncio loop, and ways to have it do things from any thread."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from corral.connection import forked
from corral_schemas.errors import error

T = TypeVar("T")


class Portal:
    """Runs coroutines in its own thread's loop; whoever calls waits for the result."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._closing = threading.Lock()  # what was handed over before `stop` is cancelled by it, and nothing is handed over after it

    @property
    def running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        ready = threading.Event()
        self._pid = os.getpid()

        def main() -> None:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.call_soon(ready.set)
                self._loop.run_forever()

        self._thread = threading.Thread(target=main, name="corral-client", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Ends the thread. Stopping again does nothing."""
        with self._closing:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None and os.getpid() == self._pid:  # a fork has no such thread
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the coroutine's result or raise its exception.

        An interrupt of the waiting thread (Ctrl-C) cancels it and waits until it has removed what it made; a second one gives up.
        """
        if os.getpid() != self._pid:
            work.close()
            raise forked(self._pid)
        with self._closing:
            if self._loop is None:
                work.close()
                raise error("guest_unreachable", "the client is not open: use it as a context manager")
            loop = self._loop
            running = _Running(work)
            loop.call_soon_threadsafe(running.begin)
        try:
            return running.outcome.result()
        except CancelledError as why:  # nobody here cancels it and goes on waiting
            raise error("guest_unreachable", "the client was closed by another thread") from why
        except BaseException:
            if not running.outcome.done():
                loop.call_soon_threadsafe(running.cancel)
                running.outcome.exception()
            raise

    def iterate(self, source: AsyncIterator[T]) -> "PortalIterator[T]":
        return PortalIterator(self, source)


class _Running(Generic[T]):
    """A coroutine as a task of the loop, with an outcome that other threads can wait for. Methods belong to the loop's thread."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.outcome: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: "asyncio.Task[T]") -> None:
        failure = CancelledError() if task.cancelled() else task.exception()
        if failure is not None:
            self.outcome.set_exception(failure)
        else:
            self.outcome.set_result(task.result())


class PortalIterator(Generic[T], Iterator[T]):
    """An asynchronous iterator seen from outside its loop. `close` gives it up early; leaving a `for` loop does so too."""

    def __init__(self, portal: Portal, source: AsyncIterator[T]) -> None:
        self._portal, self._source = portal, source

    def __iter__(self) -> "PortalIterator[T]":
        return self

    def __next__(self) -> T:
        try:
            return self._portal.run(_next(self._source))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            self._portal.run(close())


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
