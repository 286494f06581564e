"""A guest's kernel and OCI runtime: containers whose programs are small scripts."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from corral_testkit.sim.process import Process
from corral_testkit.sim.witness import Life, Witness, generated
from corral_worker.shim.spool.format import StreamState

SIGKILL, SIGTERM = 9, 15
HARMLESS = frozenset({10, 12, *range(34, 65)})
"""Signals the scripts catch and go on; the witness counts them."""


class RuntimeError_(Exception):
    """The runtime's own error text."""


@dataclass
class Script:
    """A program: prints, then ends. `until_eof`: it ends when its stdin does."""

    token: str
    run_ms: int
    prints: list[tuple[int, int, int]] = field(default_factory=list)
    """(after ms, stream, bytes)"""
    code: int | None = 0
    signal: int | None = None
    oom: bool = False
    """It is the out-of-memory killer's signal."""
    ignores_term: bool = False
    child_ms: int = 0
    """It leaves a child behind that holds stdout so long, and then prints `child_bytes`."""
    child_bytes: int = 0
    until_eof: bool = False
    fails: str = ""
    """The runtime's error text at its creation."""
    slow_ms: int = 0
    """The runtime takes so much longer; with `hangs` for ever."""
    hangs: bool = False

    def args(self) -> list[str]:
        return ["script", json.dumps(self.__dict__)]

    @staticmethod
    def of(args: list[str]) -> Script:
        told = json.loads(args[1])
        return Script(**{**told, "prints": [tuple(one) for one in told["prints"]]})

    @property
    def seed(self) -> int:
        return sum(map(ord, self.token)) * 7919 % 65_521


class Running:
    """One process of a container. Its pipes are emptied by whoever holds `on_output`; while nobody does, they fill."""

    def __init__(self, kernel: Kernel, life: Life, script: Script) -> None:
        self.kernel, self.life, self.script = kernel, life, script
        self.pipes: dict[int, list[bytes]] = {1: [], 2: []}
        self.open = {1: True, 2: True}
        self.on_output: Callable[[int], None] = lambda stream: None
        self.on_end: list[Callable[[], None]] = []
        self.ended = False
        self._paused_at_s: float | None = None
        self._due: dict[int, tuple[float, Callable[[], None], Any]] = {}  # number -> (when, what, timer)
        self._numbers = 0
        life.produced = {1: StreamState(), 2: StreamState()}

    def start(self) -> None:
        if self.ended or self.life.started_s is not None:
            return
        self.life.started_s = self.kernel.process.loop.time()
        for after_ms, stream, count in self.script.prints:
            self._later(after_ms / 1000, partial(self._print, stream, count))
        if not self.script.until_eof:
            self._later(self.script.run_ms / 1000, self._done)

    def eof(self) -> None:
        if self.script.until_eof and not self.ended:
            self._later(0.001, self._done)

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        self._numbers += 1
        number = self._numbers
        when_s = self.kernel.process.loop.time() + delay_s
        timer = None if self._paused_at_s is not None else self.kernel.process.call_later(delay_s, self._ring, number)
        self._due[number] = (when_s, what, timer)

    def _ring(self, number: int) -> None:
        due = self._due.pop(number, None)
        if due is not None:
            due[1]()

    def _print(self, stream: int, count: int) -> None:
        if not self.open[stream]:
            return
        state = self.life.produced[stream]
        data = generated(self.life.seed + stream, state.offset, count)
        self.life.produced[stream] = StreamState(state.offset + count, 0)
        self.life.printed_at.append(("stdout" if stream == 1 else "stderr", state.offset + count, self.kernel.process.loop.time()))
        self.pipes[stream].append(data)
        self.on_output(stream)

    def _done(self) -> None:
        if self.script.signal is not None:
            self.life.oom = self.script.oom
            self.die({"type": "signalled", "signal": self.script.signal, "core": False})
        else:
            self.die({"type": "exited", "code": self.script.code or 0})

    def die(self, end: dict[str, Any], why: str = "") -> None:
        if self.ended:
            return
        self.ended = True
        life = self.life
        life.end, life.ended_s, life.why = end, self.kernel.process.loop.time(), why
        for _, _, timer in self._due.values():
            if timer is not None:
                timer.cancel()
        self._due.clear()
        self._paused_at_s = None
        if self.script.child_ms and life.started_s is not None and not why and end["type"] == "exited":
            self._later(self.script.child_ms / 1000, self._child_done)
            self._close(2)
        else:
            self._close(1)
            self._close(2)
        for told in self.on_end:
            told()

    def _child_done(self) -> None:
        if self.script.child_bytes:
            self._print(1, self.script.child_bytes)
        self._close(1)

    def end_child(self) -> None:
        """The container is killed as a whole."""
        for _, _, timer in self._due.values():
            if timer is not None:
                timer.cancel()
        self._due.clear()
        self._close(1)

    def _close(self, stream: int) -> None:
        if self.open[stream]:
            self.open[stream] = False
            self.life.closed_s = self.kernel.process.loop.time()
            self.on_output(stream)

    def signal(self, number: int) -> None:
        self.life.signals.append((number, self.kernel.process.loop.time()))
        if number == SIGKILL or (
            number not in HARMLESS and self._paused_at_s is None and not (number == SIGTERM and self.script.ignores_term)
        ):
            self.die({"type": "signalled", "signal": number, "core": False})

    def pause(self) -> None:
        now_s = self.kernel.process.loop.time()
        self._paused_at_s = now_s
        for number, (when_s, what, timer) in list(self._due.items()):
            if timer is not None:
                timer.cancel()
            self._due[number] = (when_s, what, None)

    def resume(self) -> None:
        if self._paused_at_s is None:
            return
        late_s = self.kernel.process.loop.time() - self._paused_at_s
        self._paused_at_s = None
        for number, (when_s, what, timer) in list(self._due.items()):
            if timer is None:
                delay_s = max(0.0, when_s + late_s - self.kernel.process.loop.time())
                self._due[number] = (when_s + late_s, what, self.kernel.process.call_later(delay_s, self._ring, number))


@dataclass
class RuntimeContainer:
    """What the runtime knows of a container."""

    instance: str
    init: Running
    execs: list[Running] = field(default_factory=list)
    status: str = "created"

    @property
    def processes(self) -> list[Running]:
        return [self.init, *self.execs]


class Kernel:
    """One boot of one guest: pids, containers, and the runtime's verbs. `process` dies with the power."""

    def __init__(self, guest: str, process: Process, witness: Witness, randomness: random.Random, root: Path, first_pid: int) -> None:
        """`root`: the runtime's --root, where every container it knows has a directory."""
        self._root = root
        self.guest, self.process, self.witness, self.randomness = guest, process, witness, randomness
        self.containers: dict[str, RuntimeContainer] = {}
        self._pid = first_pid

    def _born(self, container: str, instance: str, script: Script, *, init: bool) -> Running:
        self._pid += 1
        life = Life(self.guest, script.token, container, instance, init, self.process.loop.time(), self._pid, script.seed)
        self.witness.born(life)
        return Running(self, life, script)

    def create(self, container: str, instance: str, script: Script) -> Running:
        if container in self.containers:
            raise RuntimeError_(f"container with given ID already exists: {container}")
        running = self._born(container, instance, script, init=True)
        (self._root / container).mkdir(exist_ok=True)
        made = self.containers[container] = RuntimeContainer(container, running)
        running.on_end.append(lambda: self._init_ended(made))
        return running

    def exec(self, container: str, instance: str, script: Script) -> Running:
        found = self._get(container)
        if found.status == "paused":
            raise RuntimeError_("cannot exec in a paused container (use --ignore-paused to override)")
        if found.status == "stopped":
            raise RuntimeError_("cannot exec in a stopped container")
        running = self._born(container, instance, script, init=False)
        found.execs.append(running)
        running.start()
        return running

    def start(self, container: str) -> None:
        found = self._get(container)
        if found.status == "stopped":
            raise RuntimeError_("cannot start a container that has stopped")
        if found.status != "created":
            raise RuntimeError_("cannot start an already running container")
        found.status = "running"
        found.init.start()

    def pause(self, container: str) -> None:
        found = self._get(container)
        if found.status not in ("created", "running"):
            raise RuntimeError_("container not running or created: paused")
        found.status = "paused"
        for process in found.processes:
            process.pause()

    def resume(self, container: str) -> None:
        found = self._get(container)
        if found.status != "paused":
            raise RuntimeError_("container not paused")
        found.status = "running" if found.init.life.started_s is not None else "created"
        for process in found.processes:
            process.resume()

    def update(self, container: str) -> None:
        if self._get(container).status == "stopped":
            raise RuntimeError_("container not running")

    def delete(self, container: str) -> None:
        """With --force: whatever is there goes."""
        if container in self.containers:
            self.kill_all(container, "")
            self.forget(container)

    def forget(self, container: str) -> None:
        """Nothing of it runs any more, and the runtime no longer knows it."""
        self.containers.pop(container, None)
        shutil.rmtree(self._root / container, ignore_errors=True)

    def _get(self, container: str) -> RuntimeContainer:
        found = self.containers.get(container)
        if found is None:
            raise RuntimeError_("container does not exist")
        return found

    def _init_ended(self, container: RuntimeContainer) -> None:
        """The kernel ends all of its pid namespace."""
        container.status = "stopped"
        for process in container.execs:
            process.die({"type": "signalled", "signal": SIGKILL, "core": False}, "init ended")
            process.end_child()
        container.init.end_child()

    def kill_all(self, container: str, why: str) -> None:
        found = self.containers.get(container)
        if found is None:
            return
        for process in [*found.execs, found.init]:
            process.die({"type": "signalled", "signal": SIGKILL, "core": False}, why)
            process.end_child()

    def look(self, container: str) -> tuple[bool, bool]:
        """(frozen, init waits for start)"""
        found = self.containers.get(container)
        if found is None:
            return False, True
        return found.status == "paused", found.init.life.started_s is None
