"""Containers of a few names under any sequence of verbs, on real runc, with workers and brokers killed in between, against a model."""

from __future__ import annotations

import secrets
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import integers, sampled_from

from corral import Event, Exit, StdioOptions
from corral.sync.client import Client
from corral.sync.container import Container, Process
from corral.sync.guest import Guest
from corral_testkit.bundles import make_bundle
from corral_testkit.sizes import is_full, size
from corral_testkit.system import CorralSystem
from corral_testkit.verbs import AFTERWARDS, OK, TABLE, VERBS, Place, code_of

NAMES = ("a", "b", "c")
PLAIN_VERBS = sorted(set(TABLE) - {"create", "run", "wait", "exec", "resume"})
"""Those that the table says everything about."""
KINDS = ("created", "started", "paused", "resumed", "updated", "exit", "deleted")
STDIO = StdioOptions(tty=True, stdin=True)
PROGRAM = ["sh", "-c", "read code; exit $code"]
KILLED = ("signalled", int(signal.SIGKILL))
ENDED_BY_SIGTERM = ("exited", 2)
"""A created container's init is the runtime's own still: a Go program, which exits with 2 where SIGTERM cannot end it as PID 1. `stop`
without grace sends both signals, and either may come to be served first."""


@dataclass
class Life:
    """One instance, as it must be."""

    container: Container
    events: list[str]
    started: bool = False
    exit: tuple[str, int | None] | None = None
    execs: dict[str, Process] = field(default_factory=dict)
    """Those that run."""
    ended: list[tuple[Process, tuple[str, int]]] = field(default_factory=list)


class Lifecycle(RuleBasedStateMachine):
    """Rules do one thing, hold its answer against the table, and move the model on; invariants compare all there is."""

    system: ClassVar[CorralSystem]
    oci_bundle: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.prefix = secrets.token_hex(3)
        self.client: Client = self.system.client(retry_unreachable=True)
        self.guest: Guest = self.client.guest(self.system.names[0])
        self.states = dict.fromkeys(NAMES, "absent")
        self.lives: dict[str, Life] = {}
        self.past: list[Life] = []
        with self.client.events(guests=[self.guest.name], broker_events=False) as events:
            self.cursor = events.cursor

    def teardown(self) -> None:
        if not hasattr(self, "states"):  # it did not come to its beginning
            return
        for name in NAMES:
            if self.states[name] != "absent":
                self.do("delete_force", name)
        for life in self.past:
            assert _told(life.container.wait()) == life.exit, "an exit is a repeatable read, after delete too"
        self.events_are_those_of_the_model()
        self.client.close()

    # -- rules ----------------------------------------------------------------------------------------------------------------

    @rule(name=sampled_from(NAMES), start=sampled_from([True, False]))
    def make(self, name: str, start: bool) -> None:
        verb = "run" if start else "create"
        make = self.guest.run if start else self.guest.create
        request_id = secrets.token_hex(8)
        made: list[Container] = []

        def work(place: Place) -> None:
            made.append(make(place.container.name, bundle=place.bundle, stdio=STDIO, request_id=request_id))

        place = self.place(name)
        expected = TABLE[verb][self.states[name]]
        assert code_of(work, place) == expected
        assert code_of(work, place) == expected, "the same request is answered the same, and done once"
        if expected == OK:
            assert made[0].instance == made[1].instance
            kinds = ["created", "started"] if start else ["created"]
            self.lives[name] = Life(made[0], kinds, started=start)
            self.states[name] = "running" if start else "created"

    @rule(name=sampled_from(NAMES), verb=sampled_from(PLAIN_VERBS))
    def do(self, verb: str, name: str) -> None:
        state = self.states[name]
        expected = TABLE[verb][state]
        assert code_of(VERBS[verb], self.place(name)) == expected
        if expected == OK:
            self.move(verb, name, AFTERWARDS.get((verb, state), state))

    @rule(name=sampled_from(NAMES))
    def resume(self, name: str) -> None:
        expected = TABLE["resume"][self.states[name]]
        assert code_of(VERBS["resume"], self.place(name)) == expected
        if expected == OK:
            self.move("resume", name, "running" if self.lives[name].started else "created")

    @rule(name=sampled_from(NAMES), number=integers(0, 2))
    def exec_that_stays(self, name: str, number: int) -> None:
        state, process_id = self.states[name], f"x{number}"
        expected = TABLE["exec"][state]
        taken = name in self.lives and process_id in {*self.lives[name].execs, *(one.process for one, _ in self.lives[name].ended)}
        if expected == OK and taken:
            expected = "process_already_exists"
        running: list[Process] = []
        work = lambda place: running.append(place.container.exec(["sleep", "1000"], process=process_id))  # noqa: E731
        assert code_of(work, self.place(name)) == expected
        if expected == OK:
            self.lives[name].execs[process_id] = running[0]

    @precondition(lambda self: any(life.execs for life in self.lives.values()))
    @rule(number=sampled_from([signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1]))
    def kill_an_exec(self, number: signal.Signals) -> None:
        name, life = next((name, life) for name, life in self.lives.items() if life.execs)
        if self.states[name] == "paused" and number != signal.SIGKILL:
            return  # it would take effect only later
        _, process = life.execs.popitem()
        assert process.kill(number).outcome == "delivered"
        life.ended.append((process, ("signalled", number)))
        assert _told(process.wait(10)) == ("signalled", number)

    @rule(name=sampled_from(NAMES), code=integers(0, 255))
    def end(self, name: str, code: int) -> None:
        """init ends by itself; whatever else runs is ended with it."""
        if self.states[name] != "running":
            return
        life = self.lives[name]
        life.container.init.stdin.write(b"%d\n" % code)
        self.stopped(name, ("exited", code))

    @rule(name=sampled_from(NAMES))
    def wait(self, name: str) -> None:
        state = self.states[name]
        if state == "absent":
            return  # after a deletion the exit is still there: teardown looks at those
        assert code_of(VERBS["wait"], self.place(name)) == TABLE["wait"][state]

    @rule()
    def kill_the_worker(self) -> None:
        self.system.restart_worker(self.guest.name)

    @rule()
    def kill_the_broker(self) -> None:
        self.system.restart_broker()

    # -- the model --------------------------------------------------------------------------------------------------------------

    def place(self, name: str) -> Place:
        return Place(self.guest, self.guest.container(f"{self.prefix}-{name}"), str(self.oci_bundle))

    def move(self, verb: str, name: str, after: str) -> None:
        """The verb was done: what follows from it."""
        life, before = self.lives[name], self.states[name]
        if after == "absent":
            if before != "stopped":
                self.stopped(name, KILLED)
            life.events.append("deleted")
            self.past.append(self.lives.pop(name))
        elif after == "stopped" and before != "stopped":
            self.stopped(name, KILLED, *([ENDED_BY_SIGTERM] if (verb, before) == ("stop", "created") else []))
        elif verb in ("pause", "resume", "update"):
            life.events.append({"pause": "paused", "resume": "resumed", "update": "updated"}[verb])
        elif verb == "start":
            life.started = True
            life.events.append("started")
        self.states[name] = after

    def stopped(self, name: str, *ends: tuple[str, int]) -> None:
        """By one of these."""
        life = self.lives[name]
        life.exit = _told(life.container.wait(10))
        assert life.exit in ends
        life.events.append("exit")
        self.states[name] = "stopped"
        life.ended += [(process, KILLED) for process in life.execs.values()]
        life.execs.clear()

    # -- what always holds --------------------------------------------------------------------------------------------------------

    @invariant()
    def the_guest_shows_what_the_model_has(self) -> None:
        if not hasattr(self, "states"):
            return
        listed = {one.id: (one.instance, one.status) for one in self.guest.list().containers if one.id.startswith(self.prefix)}
        assert listed == {f"{self.prefix}-{name}": (life.container.instance, self.states[name]) for name, life in self.lives.items()}
        for name, life in self.lives.items():
            pid = life.container.state().pid
            alive = self.states[name] != "stopped"
            assert bool(pid) == alive and (not alive or Path(f"/proc/{pid}").exists())
            assert {one.process for one in life.container.ps()} == ({"init", *life.execs} if alive else set())
            if life.exit is not None:
                assert _told(life.container.wait(1)) == life.exit
            for process, end in life.ended:
                assert _told(process.wait(1)) == end

    def events_are_those_of_the_model(self) -> None:
        """Each instance's own, in order and once."""
        expected = {life.container.instance: life.events for life in self.past}
        found: dict[str, list[str]] = {instance: [] for instance in expected}
        if not expected:
            return
        with self.client.events(after=self.cursor, guests=[self.guest.name], kinds=KINDS, broker_events=False) as events:
            for item in events:
                assert isinstance(item, Event), item
                if item.header.instance in found and item.header.process in ("", "init"):
                    found[item.header.instance].append(item.kind)
                    if sum(kinds.count("deleted") for kinds in found.values()) == len(expected):
                        break
        assert found == expected


def _told(end: Exit) -> tuple[str, int | None]:
    return end.type, end.code if end.type == "exited" else end.signal


@pytest.mark.guarantee(17)
@pytest.mark.runc
@pytest.mark.timeout(3_600)
def test_any_sequence_of_verbs_does_what_the_table_says_whatever_is_killed(corral: CorralSystem, tmp_path: Path, rootfs: Path) -> None:
    Lifecycle.system = corral
    Lifecycle.oci_bundle = make_bundle(tmp_path / "bundle", PROGRAM, rootfs=rootfs, tty=True)
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=size(4, 30),
            stateful_step_count=size(25, 50),
            deadline=None,
            derandomize=not is_full(),
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
