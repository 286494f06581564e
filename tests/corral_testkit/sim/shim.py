"""A shim as its protocol describes it: requests once by (id, step), notices until acknowledged, a life of its own beside the worker."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral_testkit.shim_messages import INCOMING, OUTGOING, checked
from corral_testkit.sim.patches import wall_ns
from corral_testkit.sim.process import Process
from corral_testkit.sim.runtime import Running, RuntimeError_, Script
from corral_testkit.sim.shim_process import EARLY_S, ShimProcess, _error
from corral_worker.shim.base.wire import VERSION, Message

if TYPE_CHECKING:
    from corral_testkit.sim.guest import SimGuest
    from corral_testkit.sim.shims import ShimConnection

MAKING = ("create", "run", "exec")
QUEUED = (*MAKING, "start", "pause", "resume", "update", "delete")
Key = tuple[str, str]


class SimShim:
    """One container's."""

    def __init__(self, guest: SimGuest, instance: str, name: str) -> None:
        self.guest, self.instance, self.name = guest, instance, name
        self.process = Process(guest.loop, guest.host, f"shim-{guest.name}-{name}")
        self.socket = guest.paths.shim_socket(instance)
        self.socket.touch()
        self.processes: dict[str, ShimProcess] = {}
        self.generation = 0
        self._connection: ShimConnection | None = None
        self._gone: set[str] = set()
        self._init: ShimProcess | None = None
        self._responses: dict[Key, Message] = {}
        self._running: dict[Key, None] = {}
        self._queue: deque[tuple[Key, Message, float]] = deque()  # (key, request, deadline)
        self._current: tuple[Key, Any, Callable[[], None]] | None = None  # what runs, its timer, and what cuts it off
        self._notices: dict[int, Message] = {}
        self._notice_number = self._oom_kills = 0
        self._delete_key: Key | None = None

    # -- connections -----------------------------------------------------------------------------------------------------------

    def message(self, connection: ShimConnection, message: Message, blob: bytes) -> None:
        """From any worker that is connected."""
        checked(message, OUTGOING)
        if message["t"] == "hello":
            self._hello(connection, message)
        elif connection is self._connection:
            self._on_message(message, blob)

    def _hello(self, connection: ShimConnection, message: Message) -> None:
        if message["generation"] <= self.generation:
            connection.to_worker({"t": "refused", "generation": self.generation})
            connection.shim_closes()
            return
        self.generation = message["generation"]
        if self._connection is not None:
            self._connection.shim_closes()
        self._connection = connection
        self._send(
            {
                "t": "state",
                "version": VERSION,
                "instance": self.instance,
                "pid": 1,
                "processes": [one.snapshot() for one in self.processes.values()],
                "responses": list(self._responses.values()),
                "pending": [{"id": key[0], "step": key[1]} for key in self._running],
                "strangers_reaped": 0,
            }
        )
        for notice in self._notices.values():
            self._send(notice)

    def connection_lost(self, connection: ShimConnection) -> None:
        if self._connection is connection:
            self._connection = None

    def _send(self, message: Message) -> None:
        checked(message, INCOMING)
        if self._connection is not None:
            self._connection.to_worker(message)

    def notify(self, message: Message) -> None:
        self._notice_number += 1
        notice = self._notices[self._notice_number] = {**message, "n": self._notice_number}
        self._send(notice)

    # -- messages --------------------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message, blob: bytes) -> None:
        match message["t"]:
            case "request":
                self._request(message, blob)
            case "ack":
                self._acknowledged(message["n"])
            case "ack_response":
                key = (message["id"], message["step"])
                if self._responses.pop(key, None) is not None and key == self._delete_key:
                    self.end()
            case "cancel":
                self._cancel(message["id"])
            case "arm":
                self._arm(message)

    def _request(self, message: Message, blob: bytes) -> None:
        key = (message["id"], message["step"])
        if key in self._responses:
            self._send(self._responses[key])
            return
        if key in self._running:
            return
        self._running[key] = None
        if key[1] in QUEUED:
            timeout_ms = message.get("timeout_ms")
            deadline_s = self.guest.loop.time() + (timeout_ms / 1000 if timeout_ms is not None else 1e9)
            self._queue.append((key, message, deadline_s))
            self._next_call()
        else:
            self._answer(key, self._direct(key[1], message, blob))

    def _answer(self, key: Key, content: Message) -> None:
        self._running.pop(key, None)
        self._responses[key] = {"t": "response", "id": key[0], "step": key[1], **content}
        self._send(self._responses[key])

    def _acknowledged(self, number: int) -> None:
        notice = self._notices.pop(number, None)
        process = self.processes.get(str(notice.get("process"))) if notice is not None else None
        if process is None or process is self._init or not process.can_be_forgotten:
            return
        if not any(other.get("process") == process.instance for other in self._notices.values()):
            process.close()
            del self.processes[process.instance]
            self._gone.add(process.instance)

    def _arm(self, message: Message) -> None:
        process = self.processes.get(message["process"])
        if process is None:
            self._send({"t": "grew", "process": message["process"], "streams": {}, "exited": True})
            return
        process.armed = ({int(stream): offset for stream, offset in message["after"].items()}, bool(message.get("exited")))
        self._tell_growth(process)

    def _tell_growth(self, process: ShimProcess) -> None:
        grew = process.grew()
        if grew is not None:
            self._send(grew)

    def _cancel(self, request_id: str) -> None:
        for key, _, _ in [one for one in self._queue if one[0][0] == request_id]:
            self._queue = deque(one for one in self._queue if one[0] != key)
            self._answer(key, _error("cancelled"))
        if self._current is not None and self._current[0][0] == request_id:  # as at its deadline
            _, timer, cut_off = self._current
            timer.cancel()
            cut_off()

    # -- steps that are done at once ---------------------------------------------------------------------------------------------

    def _direct(self, step: str, message: Message, blob: bytes) -> Message:
        process = self.processes.get(message["process"])
        if step == "signal":
            return {"ok": {"outcome": self._signal(message, process)}}
        if process is None:
            return _error("stdin_closed" if message["process"] in self._gone else "process_not_found")
        if step == "stdin":
            return process.write_stdin(message["offset"], blob, message["writer"])
        if step == "close_stdin":
            return process.close_stdin(message.get("offset"), message["writer"])
        return _error("not_a_tty")

    def _signal(self, message: Message, process: ShimProcess | None) -> str:
        number = message["signal"]
        if message.get("all"):
            container = self.guest.kernel.containers.get(self.instance)
            living = [one for one in container.processes if not one.ended] if container is not None else []
            for one in living:
                one.signal(number)
            return "delivered" if living else "already_exited"
        if process is None:
            return "already_exited" if message["process"] in self._gone else "not_found"
        if process.running is None or process.exit is not None:
            return "already_exited" if process.exit is not None else "not_found"
        if not process.running.ended:  # otherwise a zombie takes it
            process.running.signal(number)
        return "delivered"

    # -- calls of the runtime, one at a time ------------------------------------------------------------------------------------

    def _next_call(self) -> None:
        if self._current is not None or not self._queue:
            return
        key, message, deadline_s = self._queue.popleft()
        now_s = self.guest.loop.time()
        if deadline_s <= now_s:
            self._answer(key, _error("timeout"))
            self._next_call()
            return
        script = _script_of(key[1], message["argv"])
        if key[1] in MAKING:
            self._write_intent(key)
        takes_s = self.guest.call_s() + (script.slow_ms / 1000 if script else 0.0)
        if key[1] in MAKING:
            self.guest.call_begins(takes_s)
        hangs = bool(script and script.hangs)
        if key[1] == "start" and self._init is not None:
            self._init.held = True
        ends_s = min(deadline_s, 1e12 if hangs else now_s + takes_s)
        timed_out = ends_s >= deadline_s
        ends = partial(self._call_ends, key, message, script)
        timer = self.process.call_later(ends_s - now_s, ends, "timeout" if timed_out else "")
        self._current = (key, timer, partial(ends, "cancelled"))

    def _write_intent(self, key: Key) -> None:
        """What a reader of a dead shim's directory finds: that it was begun."""
        with self.guest.paths.shim_record(self.instance).open("a") as record:
            record.write(json.dumps({"id": key[0], "step": key[1], "intent": {}}) + "\n")

    def _call_ends(self, key: Key, message: Message, script: Script | None, cut_off: str) -> None:
        """`cut_off`: why it did not come to its own end."""
        try:
            content = self._call(key[1], message, script, cut_off)
        except RuntimeError_ as failure:
            content = _error("runtime", str(failure), 1)
        self._current = None
        if key[1] == "delete" and "ok" in content:
            self._delete_key = key
        self._answer(key, content)
        if key[1] in MAKING and "ok" in content:
            made = self.processes[message["process"]["instance"]]
            made.announced = True
            self._settle(made)
        if key[1] == "start" and self._init is not None:
            self._init.held = False
            self._settle(self._init)
        self._next_call()

    def _call(self, step: str, message: Message, script: Script | None, cut_off: str) -> Message:
        kernel = self.guest.kernel
        if step in MAKING:
            assert script is not None
            return self._make(step, message, script, cut_off)
        if cut_off and self.guest.randomness.random() < 0.5:
            return _error(cut_off)  # cut off before it had an effect
        match step:
            case "start":
                kernel.start(self.instance)
                assert self._init is not None
                self._init.started_ns = wall_ns(self.guest.loop)
                return _error(cut_off) if cut_off else {"ok": {"started_ns": self._init.started_ns}}
            case "pause":
                kernel.pause(self.instance)
            case "resume":
                kernel.resume(self.instance)
            case "update":
                kernel.update(self.instance)
            case "delete":
                kernel.delete(self.instance)
        return _error(cut_off) if cut_off else {"ok": {}}

    def _make(self, step: str, message: Message, script: Script, cut_off: str) -> Message:
        parameters, kernel = message["process"], self.guest.kernel
        instance = parameters["instance"]
        if instance in self.processes or instance in self._gone:
            raise RuntimeError_(f"process {instance} exists already")
        if script.fails:
            raise RuntimeError_(script.fails)
        make = kernel.exec if step == "exec" else kernel.create
        running = make(self.instance, instance, script)
        if step == "run":
            kernel.start(self.instance)
        if cut_off:  # whatever it made is ended again, and cleaned away
            if step != "exec":
                kernel.kill_all(self.instance, "timeout")
                kernel.forget(self.instance)
            else:
                running.die({"type": "signalled", "signal": 9, "core": False}, "timeout")
                running.end_child()
            return _error(cut_off)
        directory = self.guest.paths.process(self.instance, instance)
        process = ShimProcess(parameters, directory, self.guest.disk, self.notify, lambda: wall_ns(self.guest.loop))
        process.running = running
        self.processes[instance] = process
        if step != "exec":
            self._init = process
        running.on_output = lambda stream: self.process.call_soon(self._readable, process, stream)
        running.on_end.append(lambda: self.process.call_soon(self._reap, process))
        if running.ended:
            self.process.call_soon(self._reap, process)
        return {"ok": {"pid": running.life.pid, "started_ns": process.started_ns}}

    # -- what its processes do -----------------------------------------------------------------------------------------------------

    def _readable(self, process: ShimProcess, stream: int) -> None:
        if process.instance not in self.processes:
            return
        if process.take_output(stream):
            if process.exit_told:
                process.tell_ends()
            else:
                self.process.call_later(EARLY_S, process.tell_ends)
        self._tell_growth(process)

    def _reap(self, process: ShimProcess) -> None:
        if process.exit is None:
            process.reap()
            if process.life.oom:
                self._oom_kills += 1
                self.notify({"t": "oom", "count": self._oom_kills})
            self._settle(process)

    def _settle(self, process: ShimProcess) -> None:
        process.tell_exit()
        self._tell_growth(process)

    # -- its own end -----------------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The container was deleted and the worker knows."""
        self.guest.shims.pop(self.instance, None)
        self._close()
        self.process.kill()

    def die(self) -> None:
        """Killed. Whoever forked it sees to the rest."""
        self._close()
        self.process.kill()

    def _close(self) -> None:
        self.socket.unlink(missing_ok=True)
        for process in self.processes.values():
            process.close()
        if self._connection is not None:
            self._connection.shim_closes()


def _script_of(step: str, argv: list[str]) -> Script | None:
    """What the runtime would read from the bundle, or from the process file."""
    if step in ("create", "run"):
        config = json.loads((Path(argv[argv.index("--bundle") + 1]) / "config.json").read_bytes())
        return Script.of(config["process"]["args"])
    if step == "exec":
        return Script.of(json.loads(Path(argv[argv.index("--process") + 1]).read_bytes())["args"])
    return None


def running_of(process: ShimProcess) -> Running:
    assert process.running is not None
    return process.running
