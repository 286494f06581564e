"""The processes of the container, by instance: opened before the runtime is asked for them, forgotten once everything is told."""

from __future__ import annotations

from collections import deque

from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.base.wire import Message
from corral_worker.shim.ledger.answers import RequestError, os_failure
from corral_worker.shim.process.process import Process, ProcessHost

GONE_REMEMBERED_MAX = 1024


class Processes(dict[str, Process]):
    """Those that are there, ended ones included; which were there before is remembered for a while."""

    def __init__(self, host: ProcessHost, place: ShimPaths) -> None:
        super().__init__()
        self._host, self._place = host, place
        self._gone: deque[str] = deque(maxlen=GONE_REMEMBERED_MAX)

    def open(self, parameters: Message) -> Process:
        """Before anything of it can happen. Raises RequestError: then there is nothing of it."""
        instance = str(parameters["instance"])
        if not instance.isalnum():
            raise RequestError("bad_request", f"not an instance: {instance!r}")
        if instance in self or self.was_here(instance):
            raise RequestError("runtime", f"process {instance} exists already")
        console = self._place.run_dir / "s" / f"{instance}.tty"
        try:
            process = Process(self._host, parameters, self._place.directory / instance, console)
        except OSError as error:
            raise os_failure(error) from error
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError("bad_request", repr(error)) from error
        self[instance] = process
        return process

    def discard(self, process: Process) -> None:
        """It never came to be."""
        self.pop(process.instance, None)
        process.discard()

    def forget(self, process: Process) -> None:
        """It ended, and the worker knows all of it."""
        process.close()
        del self[process.instance]
        self._gone.append(process.instance)

    def was_here(self, instance: str) -> bool:
        """It ended and was forgotten."""
        return instance in self._gone

    def of_pid(self, pid: int) -> Process | None:
        """The one that has this pid, and has not ended."""
        return next((process for process in self.values() if process.pid == pid and not process.is_gone), None)

    def pids(self) -> frozenset[int]:
        """Of those that have not ended."""
        return frozenset(process.pid for process in self.values() if process.pid is not None and not process.is_gone)

    def all_ended(self) -> bool:
        """Nobody is there that could do anything."""
        return all(process.is_gone for process in self.values())

    def is_oom_seen(self) -> bool:
        """Some ended while the container was being killed for want of memory."""
        return any(process.exit is not None and process.exit["oom_seen"] for process in self.values())
