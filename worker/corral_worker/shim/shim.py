"""The shim: the single writer of one container. It runs the runtime, owns the stdio, signals, reaps and records."""

from __future__ import annotations

import os
import signal
import socket
import time

from corral_worker.shim.base.light import Any, Path
from corral_worker.shim.base.linux import log
from corral_worker.shim.base.loop import Loop
from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.base.wire import Message
from corral_worker.shim.calls.calls import CONTAINER_STEPS, PROCESS_STEPS, Call, Calls, read_pid
from corral_worker.shim.calls.cleanup import Leftovers
from corral_worker.shim.calls.direct import DirectSteps
from corral_worker.shim.calls.removal import remove_stopped
from corral_worker.shim.cgroup.cgroup import Cgroup
from corral_worker.shim.cgroup.container_cgroup import ContainerCgroup
from corral_worker.shim.ledger.answers import Answers, Key, RequestError
from corral_worker.shim.ledger.record import Record
from corral_worker.shim.link import WorkerLink
from corral_worker.shim.process.output import ReadBuffer
from corral_worker.shim.process.process import Process
from corral_worker.shim.process.processes import Processes

QUEUED_STEPS = (*PROCESS_STEPS, "start", "pause", "resume", "update", "delete")


class Shim:
    """One thread, one container. Everything that changes it goes through here, and is written down here."""

    def __init__(self, place: ShimPaths, listener: socket.socket) -> None:
        """Raises OSError when its record cannot be opened."""
        self.place = place
        self.loop = Loop(self.reap)
        self.buffer = ReadBuffer(self.loop)
        self.processes = Processes(self, place)
        self._cgroup = ContainerCgroup(self.loop, place, lambda count: self.notify({"t": "oom", "count": count}))
        self._init: Process | None = None
        self._kills_rest = False
        self._full_processes: set[str] = set()
        self._strangers_reaped = 0
        self._delete_key: Key | None = None  # its answer, once acknowledged, ends the shim
        place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._link = WorkerLink(self.loop, listener, place.guest, on_message=self._on_message, snapshot=self._snapshot)
        self.answers = Answers(Record(place.directory / "record"), self._link.send)
        self._calls = Calls(self)
        self._direct = DirectSteps(self)

    def run(self) -> None:
        """Until the container was deleted and the worker knows."""
        self.loop.run()
        self._link.close()
        for process in self.processes.values():
            process.close()
        self._cgroup.close()
        self.answers.close()
        self.loop.close()
        self.place.socket_path.unlink(missing_ok=True)

    def notify(self, message: Message) -> None:
        """See ProcessHost."""
        self._link.notify(message)

    def send_droppable(self, message: Message) -> None:
        """See ProcessHost."""
        self._link.send(message, droppable=True)

    def oom_kills(self) -> int:
        """See ProcessHost."""
        return self._cgroup.oom_kills()

    @property
    def cgroup(self) -> Cgroup | None:
        """See DirectHost."""
        return self._cgroup.found

    def storage_changed(self, process: str, full: bool) -> None:
        """See ProcessHost: the container's storage is full while that of any process is."""
        was_full = bool(self._full_processes)
        (self._full_processes.add if full else self._full_processes.discard)(process)
        if bool(self._full_processes) != was_full:
            self.notify({"t": "storage", "full": full})

    def reap(self) -> None:
        """Every child that ended, in whatever order: written down, then reaped. The worker is told of all of them at once."""
        with self._link.gathered():
            while (result := _next_zombie()) is not None:
                wanted = self._calls.child_ended(result.si_pid)
                if wanted is not None:
                    wanted(os.waitstatus_to_exitcode(os.waitpid(result.si_pid, 0)[1]))
                elif (process := self._process_of(result.si_pid)) is not None:
                    self._process_ended(process, result)
                else:
                    os.waitpid(result.si_pid, 0)
                    self._strangers_reaped += 1

    def before_call(self, call: Call) -> None:
        """See CallsHost."""
        intent: dict[str, Any] = {"at_ns": time.time_ns()}
        if call.step in PROCESS_STEPS:
            intent["process"] = call.request["process"]["instance"]
        try:
            self.answers.write_intent(call.key, intent)
        except RequestError:
            if call.step != "delete":  # that may be done twice, and it makes room
                raise
        if call.step in PROCESS_STEPS:
            call.process = self.processes.open(call.request["process"])
            if call.step in CONTAINER_STEPS and self._init is None:
                self.loop.later(0, self._cgroup.expect)
        elif call.step == "start" and self._init is not None:
            self._init.hold_exit(True)
        call.deletes = call.step == "delete" and self.place.runtime_directory.exists()

    def after_call(self, call: Call, error: RequestError | None) -> None:
        """See CallsHost."""
        ok: dict[str, Any] = {}
        if call.process is not None:
            pid = read_pid(call.process.pid_file) if error is None else None
            call.process.pid_file.unlink(missing_ok=True)
            if pid is None:
                error = error or RequestError("runtime", "the runtime left no pid file", exit_status=0)
                self.processes.discard(call.process)
            else:
                self._created(call, call.process, pid)
                ok = {"pid": pid, "started_ns": call.process.started_ns}
        if call.step == "start" and error is None and self._init is not None:
            self._init.set_started(call.begun_ns)
            ok = {"started_ns": call.begun_ns}
        if call.step == "delete" and error is None:
            self._cgroup.remove_own_level()
            self._delete_key = call.key
            ok = {"warning": call.warning} if call.warning else {}
        if error is None:
            self.answers.succeed(call.key, ok)
        else:
            self.answers.fail(call.key, error)
        if call.process is not None and error is None:
            call.process.announced()
        if call.step == "start" and self._init is not None:
            self._init.hold_exit(False)

    def does_itself(self, call: Call) -> bool:
        """See CallsHost: a deletion of what has ended, where the worker says that the runtime is runc itself."""
        if call.step != "delete" or not call.request.get("plain_runc"):
            return False
        return self._init is not None and self.processes.all_ended() and remove_stopped(self.place)

    def is_deleted(self, call: Call) -> bool:
        """See CallsHost: newer runc ends so where a poststop hook fails, after it has removed what it answers `state` from."""
        return call.deletes and not self.place.runtime_directory.exists()

    def must_clean(self, call: Call) -> bool:
        """See CallsHost."""
        if self._init is not None:  # a second create failed: what is there is the container of the first
            return False
        return self.place.runtime_directory.exists() or self._cgroup.find().exists()

    def leftovers(self, call: Call) -> Leftovers:
        """See CallsHost."""
        undoes = call.step in CONTAINER_STEPS and self._init is None
        return Leftovers(
            runtime=call.pid,
            shim=os.getpid(),
            known=self.processes.pids(),
            since_ticks=call.spawned_at_ticks,
            cleanup_argv=tuple(call.request.get("cleanup_argv") or ()) if undoes else (),
            directory=self.place.runtime_directory if undoes else None,
            find_cgroup=self._cgroup.find if undoes else None,
        )

    def _created(self, call: Call, process: Process, pid: int) -> None:
        process.created(pid)
        if call.step in CONTAINER_STEPS:
            self._init = process
            process.is_init = True
            process.is_started = call.step == "run"
            self._kills_rest = bool(call.request.get("kill_rest_on_init_exit"))
            self._cgroup.settle()
            self.loop.later(0, self._watch_oom)  # after the answer
            if process.is_gone and self._kills_rest:  # a short run was over before the runtime was
                self._cgroup.kill_all()

    def _watch_oom(self) -> None:
        if self.processes.all_ended():  # there is nobody to be killed any more
            if self.processes.is_oom_seen():
                self.notify({"t": "oom", "count": self.oom_kills()})
            return
        self._cgroup.watch_oom()

    def _process_of(self, pid: int) -> Process | None:
        if (process := self.processes.of_pid(pid)) is not None:
            return process
        claimed = self._calls.claim(pid)
        if claimed is not None and not claimed.is_gone:
            claimed.created(pid)
            return claimed
        return None

    def _process_ended(self, process: Process, result: os.waitid_result) -> None:
        process.ended(result)
        _, _, usage = os.wait4(result.si_pid, 0)
        process.reaped(usage)
        self._direct.after_reap(process.instance)
        if process is self._init and self._kills_rest:
            self._cgroup.kill_all()

    def _on_message(self, message: Message, blob: bytes) -> None:
        kind = message.get("t")
        try:
            if kind == "request":
                self._on_request(message, blob)
            elif kind == "ack":
                self._on_ack(message)
            elif kind == "ack_response":
                self._on_ack_response((message["id"], message["step"]))
            elif kind == "cancel":
                self._calls.cancel(message["id"])
            elif kind == "arm":
                self._on_arm(message)
            elif kind == "consumed":
                self._on_consumed(message)
            elif kind == "ping":
                self.send_droppable({"t": "pong"})
            else:
                log(f"ignored a message of unknown type {kind!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log(f"ignored a malformed {kind} message: {error!r}")

    def _on_request(self, message: Message, blob: bytes) -> None:
        key = (str(message["id"]), str(message["step"]))
        if not self.answers.is_new(key):
            return
        try:
            if key[1] in QUEUED_STEPS:
                self._calls.submit(_call_of(key, message), message.get("timeout_ms"))
            else:
                self._direct.do(key, message, blob)
        except RequestError as error:
            self.answers.fail(key, error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.answers.fail(key, RequestError("bad_request", repr(error)))

    def _on_ack(self, message: Message) -> None:
        notice = self._link.acknowledge(message["n"])
        instance = notice.get("process") if notice is not None else None
        process = self.processes.get(instance) if isinstance(instance, str) else None
        if process is None or process is self._init or not process.can_be_forgotten:
            return
        if not self._link.has_notice_of(process.instance):
            self.processes.forget(process)

    def _on_ack_response(self, key: Key) -> None:
        known = self.answers.acknowledge(key)
        if known and key == self._delete_key:
            self.loop.stop()

    def _on_arm(self, message: Message) -> None:
        instance = str(message["process"])
        process = self.processes.get(instance)
        if process is None:
            self.send_droppable({"t": "grew", "process": instance, "streams": {}, "exited": True})
            return
        after = {int(stream): int(offset) for stream, offset in message["after"].items()}
        process.arm(after, bool(message.get("exited", False)))

    def _on_consumed(self, message: Message) -> None:
        process = self.processes.get(message["process"])
        if process is not None:
            process.consumed({int(stream): int(offset) for stream, offset in message["streams"].items()})

    def _snapshot(self) -> Message:
        return {
            "instance": self.place.instance,
            "pid": os.getpid(),
            "processes": [process.snapshot() for process in self.processes.values()],
            "responses": self.answers.unacknowledged(),
            "pending": self.answers.running(),
            "strangers_reaped": self._strangers_reaped,
        }


def _next_zombie() -> os.waitid_result | None:
    """A child that ended and is not reaped yet; it stays one."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _call_of(key: Key, message: Message) -> Call:
    """Raises KeyError, TypeError, ValueError when the request is malformed."""
    argv = [str(argument) for argument in message["argv"]]
    if isinstance(message["argv"], str) or not argv:
        raise ValueError("argv is no list of arguments")
    if not isinstance(message.get("timeout_ms"), int | None):
        raise TypeError("timeout_ms is no integer")
    if key[1] in PROCESS_STEPS:
        str(message["process"]["instance"])
    return Call(key, argv, Path(message["log"]), message)


def run_shim(place: ShimPaths, listener: socket.socket) -> None:
    """A shim's whole life, on a socket that listens. Raises OSError when it cannot begin."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Shim(place, listener).run()
