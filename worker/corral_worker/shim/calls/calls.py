"""The runtime calls of one container: one at a time, in the order they came, each done by its deadline."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from corral_worker.shim.base.light import Path, Protocol, dataclass
from corral_worker.shim.base.loop import Loop, Timer
from corral_worker.shim.base.wire import Message
from corral_worker.shim.calls.cleanup import Cleanup, Leftovers
from corral_worker.shim.calls.runtime_log import last_error, prepare_log
from corral_worker.shim.calls.spawn import spawn
from corral_worker.shim.ledger.answers import Key, RequestError, os_failure
from corral_worker.shim.process.process import Process

CONTAINER_STEPS = ("create", "run")  # these make the container: one call, or the first of create and start
PROCESS_STEPS = (*CONTAINER_STEPS, "exec")
UNDO_STEPS = ("delete", "resume")


@dataclass(slots=True)
class Call:
    """One run of the runtime. ``process``: what it creates, only for create, run and exec, once it is open."""

    key: Key
    argv: list[str]
    log: Path
    request: Message
    process: Process | None = None
    timer: Timer | None = None
    pid: int | None = None
    log_offset: int = 0
    begun_ns: int = 0
    cleanup: Cleanup | None = None
    error: RequestError | None = None  # what it will be answered once all is cleaned up
    spawned_at_ticks: int = 0
    deletes: bool = False  # there is something that the runtime is to delete
    warning: str = ""  # what it complained of though it did what it was to do

    @property
    def step(self) -> str:
        """The verb."""
        return self.key[1]


class CallsHost(Protocol):
    """What the calls need of their shim."""

    loop: Loop

    def before_call(self, call: Call) -> None:
        """Open what the call needs, write its intent. Raises RequestError: then nothing is run."""

    def after_call(self, call: Call, error: RequestError | None) -> None:
        """It is over, and so is its clean-up: answer it."""

    def does_itself(self, call: Call) -> bool:
        """The call's effect was brought about without the runtime: it need not be run."""

    def is_deleted(self, call: Call) -> bool:
        """A delete that failed did delete the container: what failed came after that."""

    def must_clean(self, call: Call) -> bool:
        """A create or run that failed left something behind that is not a container in use."""

    def leftovers(self, call: Call) -> Leftovers:
        """What a call that was cut off may have left."""

    def reap(self) -> None:
        """Look for exits now."""


class Calls:
    """The queue, and the one that runs."""

    def __init__(self, host: CallsHost) -> None:
        self._host = host
        self._queue: deque[Call] = deque()
        self._running: Call | None = None

    def submit(self, call: Call, timeout_ms: int | None) -> None:
        """Run it when its turn comes; the time it waits counts."""
        if timeout_ms is not None:
            call.timer = self._host.loop.later(timeout_ms / 1000, lambda: self._cut_off(call, "timeout"))
        self._queue.append(call)
        self._start_next()

    def cancel(self, request_id: str) -> None:
        """Take it out of the queue, or treat it as at its deadline."""
        for call in [*self._queue, self._running]:
            if call is not None and call.key[0] == request_id:
                self._cut_off(call, "cancelled")

    def claim(self, pid: int) -> Process | None:
        """The process that the running call has just created under this pid, if it is that."""
        call = self._running
        if call is None or call.process is None or call.cleanup is not None:
            return None
        return call.process if read_pid(call.process.pid_file) == pid else None

    def child_ended(self, pid: int) -> Callable[[int], None] | None:
        """Who wants this child's exit status (as from waitstatus_to_exitcode), if it is ours."""
        call = self._running
        if call is None:
            return None
        if call.pid == pid:
            return lambda status: self._runtime_ended(call, status)
        if call.cleanup is not None and call.cleanup.pid == pid:
            return call.cleanup.argv_ended
        return None

    def _start_next(self) -> None:
        while self._running is None and self._queue:
            call = self._queue.popleft()
            self._running = call
            try:
                self._host.before_call(call)
                if self._host.does_itself(call):
                    self._finish(call, None)
                    continue
                call.log_offset = self._prepare_log(call)
                call.begun_ns = time.time_ns()
                call.spawned_at_ticks = _uptime_ticks()
                call.pid = spawn(call.argv, call.process.child_stdio() if call.process else (-1, -1, -1))
            except (RequestError, OSError) as error:
                self._finish(call, error if isinstance(error, RequestError) else os_failure(error))
                continue
            if call.process is not None:
                call.process.spawned()

    def _prepare_log(self, call: Call) -> int:
        try:
            return prepare_log(call.log)
        except OSError as error:
            if call.step in UNDO_STEPS:  # what makes room, or ends something, goes on without
                return 0
            raise os_failure(error) from error

    def _runtime_ended(self, call: Call, status: int) -> None:
        call.pid = None
        if call.cleanup is not None:
            call.cleanup.runtime_ended()
            return
        if status == 0:
            self._finish(call, None)
            return
        error = RequestError("runtime", last_error(call.log, call.log_offset), exit_status=status)
        if self._host.is_deleted(call):
            call.warning = error.text or f"the runtime ended with status {status}"
            self._finish(call, None)
            return
        if call.step in CONTAINER_STEPS and self._host.must_clean(call):
            self._clean(call, error)
        else:
            self._finish(call, error)

    def _cut_off(self, call: Call, kind: str) -> None:
        if call in self._queue:
            self._queue.remove(call)
            self._answer(call, RequestError(kind, "it was still queued"))
            return
        self._host.reap()
        if call is self._running and call.cleanup is None:
            self._clean(call, RequestError(kind))

    def _clean(self, call: Call, error: RequestError) -> None:
        call.error = error
        call.cleanup = Cleanup(self._host.loop, self._host.leftovers(call), lambda whole: self._cleaned(call, whole))
        call.cleanup.begin()

    def _cleaned(self, call: Call, whole: bool) -> None:
        assert call.error is not None
        if not whole:
            call.error.details["leftovers"] = True
        self._finish(call, call.error)

    def _finish(self, call: Call, error: RequestError | None) -> None:
        self._running = None
        self._answer(call, error)
        if self._queue:
            self._host.loop.later(0, self._start_next)  # the answer goes out first: to spawn takes milliseconds

    def _answer(self, call: Call, error: RequestError | None) -> None:
        if call.timer is not None:
            call.timer.cancel()
        self._host.after_call(call, error)


def read_pid(path: Path) -> int | None:
    """The pid in a pid file, None when it is not there or not whole."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _uptime_ticks() -> int:
    """Now, in the unit of start times in /proc."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
