"""One run: builds the world from a scenario, lets it happen, heals it, has it audited, and says what was wrong."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral_testkit.sim.audit import Audit
from corral_testkit.sim.broker import SimBroker
from corral_testkit.sim.client import SimClient
from corral_testkit.sim.contents import Contents
from corral_testkit.sim.disk import place_of
from corral_testkit.sim.faults import Faults
from corral_testkit.sim.guest import SimCgroup, SimGuest
from corral_testkit.sim.history import History
from corral_testkit.sim.loop import TURNS_MAX, SimLoop
from corral_testkit.sim.messages import kind_of
from corral_testkit.sim.network import Network
from corral_testkit.sim.patches import simulated_world
from corral_testkit.sim.process import RUNNING, Host
from corral_testkit.sim.scenario import Scenario
from corral_testkit.sim.transfers import Transfers
from corral_testkit.sim.validators import findings
from corral_testkit.sim.validators.evidence import Evidence
from corral_testkit.sim.witness import Witness

SETTLE_S = 35.0
"""Between the last fault and the audit: what was under way comes to its end."""
FREE_BYTES = 1 << 33
"""On a guest's disk, where it is not full."""
AUDIT_S_MAX = 90.0
TURNS_PER_S_MAX = 100
"""Callbacks for each simulated second that a run may have beyond TURNS_MAX."""
CATCH_UP_S = 13.0
"""After the audit: a subscriber that lost the last event asks after two missed heartbeats."""


@dataclass
class Result:
    """What came of a run."""

    seed: int
    findings: list[str]
    trace: str
    """Hash over every message that was delivered, with its time."""
    figures: dict[str, int] = field(default_factory=dict)
    coverage: dict[tuple[str, str], int] = field(default_factory=dict)
    """(fault, message type) → how often the one met the other."""


class World:
    """Everything there is in one run."""

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        chance = random.Random(f"world {scenario.seed}")
        self.scenario, self.directory = scenario, directory
        self.chance = chance
        self.loop = SimLoop(lambda: 0.000_2 + 0.001 * chance.random(), TURNS_MAX + int(TURNS_PER_S_MAX * scenario.duration_s))
        self.network = Network(self.loop, chance)
        self.witness, self.history = Witness(), History()
        self.rootfs = directory / "rootfs"
        self.rootfs.mkdir()
        (directory / "clients").mkdir()
        self.contents = Contents(scenario.seed)
        self.zero_s = self.loop.time()
        self.brokers = [
            SimBroker(self.network, Host(f"broker{number}"), chance, self.history.findings) for number in range(scenario.brokers)
        ]
        addresses = [broker.address for broker in self.brokers]
        self.guests = [
            SimGuest(self.loop, self.network, f"g{number}", directory, addresses, self.witness, chance) for number in range(scenario.guests)
        ]
        names = [guest.name for guest in self.guests]
        self.clients = [
            SimClient(
                self.network,
                number,
                addresses,
                names,
                [step for step in scenario.steps if step.client == number],
                str(self.rootfs),
                Transfers(self.loop, f"client{number}", names, self.contents, directory / "clients", self.history),
                self.history,
                self.zero_s,
            )
            for number in range(scenario.clients)
        ]
        self._by_host = {guest.host: guest for guest in self.guests}
        self._trace = 0
        self.messages = 0
        self.met: Counter[tuple[frozenset[str], str]] = Counter()  # (faults under way, message type) -> messages
        self.healed = False
        self.audited_s = 0.0
        self.faults = Faults(self)
        self.history.up = lambda: [guest.name for guest in self.guests if all(broker.has(guest.name) for broker in self.brokers)]
        self.history.places = lambda: {guest.name: place_of(guest.disk.database) for guest in self.guests}
        self.network.on_delivery = self._delivered
        self.loop.on_exception = self._exception

    def _delivered(self, sender: str, receiver: str, frames: list[bytes]) -> None:
        self.messages += 1
        kinds = self.faults.kinds
        if kinds:
            self.met[kinds, kind_of(frames)] += 1
        self._trace = hash((self._trace, self.loop.time(), sender, receiver, sum(map(len, frames))))

    def _exception(self, context: dict[str, Any]) -> None:
        self.history.findings.append(f"uncaught: {context.get('message')}: {context.get('exception')!r}")

    def find_cgroup(self, run: Path, state: Path, instance: str) -> SimCgroup:
        return SimCgroup(self._by_host[RUNNING.get().host], instance)

    def look(self, root: Path, instance: str, known: object = None) -> tuple[bool, bool]:
        return self._by_host[RUNNING.get().host].kernel.look(instance)

    def free_bytes(self, directory: Path) -> int:
        guest = self._by_host.get(RUNNING.get().host)
        return 0 if guest is not None and guest.disk.full else FREE_BYTES

    def run(self) -> Result:
        for broker in self.brokers:
            broker.start()
        for guest in self.guests:
            guest.start_worker()
        for client in self.clients:
            client.start()
        self.faults.schedule()
        self.run_for(self.scenario.duration_s)
        self.healed = True
        self.faults.heal_all()
        self.run_for(SETTLE_S / 10)
        self.faults.heal_all()  # a worker that was told to stop while it stood still has done so only now
        self.run_for(SETTLE_S)
        audit = self._audited()
        found = self.history.findings
        for guest in self.guests:
            found += [f"G16 {guest.name}: {failure}" for failure in guest.failures]
        if not audit.done:
            found.append(f"G14 the audit did not end: {sorted(audit.truths)} of {len(self.guests)} guests answered")
        else:
            found += findings(self._evidence(audit))
        return Result(
            self.scenario.seed,
            list(dict.fromkeys(found)),
            f"{self._trace & (1 << 64) - 1:016x}",
            {
                "messages": self.messages,
                "turns": self.loop.turns,
                "lives": len(self.witness.lives),
                "asked": len(self.history.asked),
                "raw": len(self.history.raw),
            },
            self._coverage(),
        )

    def _coverage(self) -> dict[tuple[str, str], int]:
        coverage: Counter[tuple[str, str]] = Counter()
        for (faults, kind), count in self.met.items():
            for fault in faults:
                coverage[fault, kind] += count
        return dict(coverage)

    def _audited(self) -> Audit:
        self.audited_s = self.loop.time()
        addresses = [broker.address for broker in self.brokers]
        audit = Audit(self.network, addresses, [guest.name for guest in self.guests], self.history, self.witness)
        audit.start()
        self.loop.run_until(lambda: audit.done, self.loop.time() + AUDIT_S_MAX)
        self.run_for(CATCH_UP_S)
        return audit

    def _evidence(self, audit: Audit) -> Evidence:
        guests = {guest.name: guest for guest in self.guests}
        return Evidence(
            guests,
            self.witness,
            self.history,
            audit.truths,
            self.faults.rewound,
            self.faults.quiet,
            self.zero_s,
            self.audited_s,
            self.scenario.seed,
            {broker.host.name: broker.unmatched for broker in self.brokers},
            list(guests),
            self.contents,
            self.rootfs,
        )

    def trace(self, line: str) -> None:
        self._trace = hash((self._trace, self.loop.time(), line))

    def run_for(self, seconds: float) -> None:
        self.loop.run_until(None, self.loop.time() + seconds)


def run_scenario(scenario: Scenario) -> Result:
    """Deterministic: the same scenario gives the same result and the same trace."""
    directory = Path(tempfile.mkdtemp(prefix="corral-sim-", dir="/dev/shm"))
    before = _descriptors()
    gc.disable()  # garbage would be collected again and again, at moments that depend on what ran before
    try:
        return _run_in(directory, scenario)
    finally:
        with _quiet_collection():
            gc.collect(0)  # all of it is young: nothing has been collected meanwhile
        gc.enable()
        for descriptor in _descriptors() - before:  # of processes that were killed
            with contextlib.suppress(OSError):
                os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


def _run_in(directory: Path, scenario: Scenario) -> Result:
    """Once it has returned nothing but garbage is left of the world."""
    world = World(scenario, directory)
    with simulated_world(world.loop, world.chance, world.find_cgroup, world.look, world.free_bytes), _logged_errors(world.history):
        try:
            return world.run()
        finally:
            with _quiet_collection():
                world.loop.dismantle()


def _descriptors() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}  # not the one that listed them


@contextlib.contextmanager
def _logged_errors(history: History) -> Iterator[None]:
    """A traceback in the log of a worker, broker or client is a finding."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                history.findings.append(f"error logged: {record.getMessage()}: {record.exc_info[1]!r}")

    handler, root = Handler(logging.ERROR), logging.getLogger()
    logging.disable(logging.WARNING)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _quiet_collection() -> Iterator[None]:
    """Coroutines of dead processes are closed in the middle of whatever they did; what they say then concerns nobody."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
