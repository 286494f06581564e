"""The steps that never wait behind a runtime call: signal, stdin, close_stdin, resize."""

from __future__ import annotations

import signal
import time

from corral_worker.shim.base.light import Protocol
from corral_worker.shim.base.loop import Loop
from corral_worker.shim.base.wire import Message
from corral_worker.shim.cgroup.cgroup import Cgroup
from corral_worker.shim.ledger.answers import Answers, Key, RequestError
from corral_worker.shim.process.input import Done
from corral_worker.shim.process.process import Process
from corral_worker.shim.process.processes import Processes

ALWAYS_HEARD = (0, signal.SIGKILL, signal.SIGSTOP)
LOOK_AGAIN_S = 0.001
BECOMING_S_MAX = 1.0


class DirectHost(Protocol):
    """What these steps need of their shim."""

    loop: Loop
    answers: Answers
    processes: Processes

    @property
    def cgroup(self) -> Cgroup | None:
        """The container's, once created."""


class DirectSteps:
    """Each is done at once; stdin may be answered later, when its bytes fit."""

    def __init__(self, host: DirectHost) -> None:
        self._host = host
        self._freeze_after: set[str] = set()  # processes whose death the freezer was opened for

    def do(self, key: Key, message: Message, blob: bytes) -> None:
        """Raises RequestError, and KeyError and its like for a malformed request."""
        step = key[1]
        if step == "signal":
            self._host.answers.write_intent(key, {"at_ns": time.time_ns(), "process": str(message["process"])})
            self._signal_when_heard(key, message, time.monotonic() + BECOMING_S_MAX)
        elif step == "stdin":
            process = self._process(message, "stdin_closed")
            process.input.write(int(message["offset"]), blob, self._answer(key), str(message.get("writer", "")))
        elif step == "close_stdin":
            offset = message.get("offset")
            process = self._process(message, "stdin_closed")
            process.input.close_at(None if offset is None else int(offset), self._answer(key), str(message.get("writer", "")))
        elif step == "resize":
            self._process(message, "not_a_tty").resize(int(message["rows"]), int(message["columns"]))
            self._host.answers.succeed(key, {})
        else:
            raise RequestError("bad_request", f"unknown step {step!r}")

    def after_reap(self, process: str) -> None:
        """A paused container stays paused after one of its processes was killed."""
        if process in self._freeze_after:
            self._freeze_after.discard(process)
            if self._host.cgroup is not None and not self._freeze_after:
                self._host.cgroup.freeze_v1()

    def _signal_when_heard(self, key: Key, message: Message, latest: float) -> None:
        """Not while the runtime's own code runs in the process, an instant before its program does: it would be lost there."""
        number = int(message["signal"])
        if number not in range(signal.NSIG):
            raise RequestError("bad_request", f"no signal {number}")
        process = self._host.processes.get(str(message["process"]))
        waits = number not in ALWAYS_HEARD and not message.get("all") and process is not None and process.is_becoming
        if waits and time.monotonic() < latest:
            self._host.loop.later(LOOK_AGAIN_S, lambda: self._signal_when_heard(key, message, latest))
        else:
            self._host.answers.succeed(key, {"outcome": self._signal(message, number)})

    def _signal(self, message: Message, number: int) -> str:
        instance = str(message["process"])
        cgroup = self._host.cgroup
        if message.get("all"):
            if cgroup is None:
                return "not_found"
            return "delivered" if self._signal_all(cgroup, number) else "already_exited"
        process = self._host.processes.get(instance)
        if process is None:
            return "already_exited" if self._host.processes.was_here(instance) else "not_found"
        outcome = process.signal(number)
        if outcome == "delivered" and number == signal.SIGKILL and cgroup is not None and cgroup.is_frozen_v1():
            if not process.is_init:
                self._freeze_after.add(instance)
            cgroup.thaw()
        return outcome

    def _signal_all(self, cgroup: Cgroup, number: int) -> bool:
        """To everybody in its cgroup, and to its processes that are not there: a runtime may make no cgroup, or be told to make none."""
        processes = list(self._host.processes.values())
        reached = cgroup.signal_all(number, next((process.pid for process in processes if process.is_init), None))
        for process in sorted(processes, key=lambda one: not one.is_init):
            if process.pid not in reached and process.signal(number) == "delivered":
                reached.add(process.pid or 0)
        return bool(reached)

    def _process(self, message: Message, when_gone: str) -> Process:
        instance = str(message["process"])
        process = self._host.processes.get(instance)
        if process is None:
            raise RequestError(when_gone if self._host.processes.was_here(instance) else "process_not_found")
        return process

    def _answer(self, key: Key) -> Done:
        def done(result: int | RequestError) -> None:
            if isinstance(result, RequestError):
                self._host.answers.fail(key, result)
            else:
                self._host.answers.succeed(key, {"offset": result})

        return done
