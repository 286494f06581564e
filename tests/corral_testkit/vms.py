"""Real guests for tests: QEMU machines cloned from one template, a broker on this host, and a client."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from corral import Client, ContainerSpec, CorralError, Event, EventGap
from corral.core.items import Item, Resync
from corral.sync.client import Events
from corral_schemas.events import GuestDown
from corral_testkit.system import Service
from corral_vm.argv import HOST_IN_GUEST
from corral_vm.image import make_state_disk
from corral_vm.machine import Identity, Machine
from corral_vm.template import Template

NAMES = ("vm1", "vm2", "vm3")
"""Never more at once: two cores carry three emulated guests."""
ROOTFS = "/srv/busybox"
UP_S = 120.0
SLICE_S = 0.2
"""A slowed guest runs and stands still once in this time."""


class VmFleet:
    """A broker and three guests; a context manager. Each guest keeps its STATE disk over everything that happens to its machine."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.image = template.image
        self._open = contextlib.ExitStack()
        self._pool = self._open.enter_context(ThreadPoolExecutor(len(NAMES)))  # a machine ends with the thread that started it
        self._directory = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="corral-vm-", dir="/tmp")))
        self.address = f"tcp://127.0.0.1:{free_ports(6)}"
        options = ["--bind", self.address, "--insecure", "--state-dir", str(self._directory / "broker")]
        self.broker = Service(["corral_broker", *options], "corral broker ready at ", self._directory / "broker.log")
        self.machines = {name: Machine(template.image, self._directory / name) for name in NAMES}
        self.faulty: set[str] = set()  # guests whose cable is out or that are frozen
        self.spoiled = False
        """A test failed: what it left of the guests is not used again."""

    def __enter__(self) -> VmFleet:
        try:
            self.broker.start()
            self._open.callback(self.broker.kill)
            for machine in self.machines.values():
                self._open.callback(machine.cut_power)
            self.client = self._open.enter_context(Client(self.address))
            self.start(*NAMES)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def identity(self, name: str, *worker_options: str) -> Identity:
        broker = f"tcp://{HOST_IN_GUEST}:{self.address.rpartition(':')[2]}"
        return Identity(name, broker, {"kind": "vm"}, worker_options=worker_options)

    def spec(self, *args: str) -> ContainerSpec:
        """A program in the busybox that every guest has."""
        return ContainerSpec(rootfs=ROOTFS, args=list(args))

    def another_machine(self, name: str, state_disk: Path) -> Machine:
        """A second machine with a copy of somebody's STATE; ended with the fleet."""
        directory = self._directory / name
        directory.mkdir()
        (directory / "state.ext4").write_bytes(state_disk.read_bytes())
        machine = Machine(self._template.image, directory)
        self._open.callback(machine.cut_power)
        return machine

    def blank(self, name: str) -> None:
        """Gives a guest that is off a new disk."""
        make_state_disk(self.machines[name].state_disk)

    def start(self, *names: str) -> None:
        """Clones the template onto these guests' own disks; returns once new workers have registered."""
        former = self.workers()
        list(self._pool.map(lambda name: self._template.clone(self.machines[name], self.identity(name)), names))
        self.wait_up({name: former.get(name, "") for name in names})

    def clone(self, machine: Machine, name: str, *worker_options: str) -> None:
        """Starts a machine with the identity of `name`, without waiting for it."""
        self._template.clone(machine, self.identity(name, *worker_options))

    def boot(self, name: str) -> None:
        """A cold start on the guest's own disk; returns once the new worker has registered."""
        former = self.workers()
        self.machines[name].boot(self.identity(name))
        self.wait_up({name: former.get(name, "")})

    def reboot(self, name: str) -> None:
        """From inside; returns once the new worker has registered."""
        former = self.workers()
        self.machines[name].reboot()
        self.wait_up({name: former[name]})

    def workers(self) -> dict[str, str]:
        """Guest → instance of the worker that registered last."""
        return {info.guest: info.worker for info in self.client.guests()}

    def wait_up(self, former: Mapping[str, str]) -> None:
        """Until these guests are up, each with another worker than the former one."""
        with self.client.events(kinds=["guest_up"]) as events:
            if not self._are_up(former):
                try:
                    until(events, lambda _: self._are_up(former), UP_S)
                except AssertionError as why:
                    raise AssertionError(f"{sorted(former)} did not all come up; {self.logs()}") from why

    def _are_up(self, former: Mapping[str, str]) -> bool:
        found = {info.guest: info.worker for info in self.client.guests() if info.up}
        return all(found.get(name, instance) != instance for name, instance in former.items())

    def restore(self) -> None:
        """Every guest up and without containers, as in the beginning."""
        if not self.broker.alive:
            self.broker.start()
        for name in self.faulty:
            self.machines[name].thaw()
            self.machines[name].plug_cable()
        self.faulty.clear()
        if self.spoiled:
            for name, machine in self.machines.items():
                machine.cut_power()
                self.blank(name)
            self.spoiled = False
        self.start(*(name for name, machine in self.machines.items() if not machine.running))
        self.wait_up(dict.fromkeys(NAMES, ""))
        for state in self.client.list().containers:
            with contextlib.suppress(CorralError):  # it is being deleted by itself
                self.client.guest(state.guest).container(state.id, state.instance).delete(force=True)

    @contextlib.contextmanager
    def pulled_cable(self, name: str) -> Iterator[Machine]:
        """The guest's network cable is out within the block."""
        with self._fault(name, Machine.pull_cable, Machine.plug_cable) as machine:
            yield machine

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[Machine]:
        """The guest's machine is stopped within the block."""
        with self._fault(name, Machine.freeze, Machine.thaw) as machine:
            yield machine

    @contextlib.contextmanager
    def slowed(self, name: str, share: float) -> Iterator[Machine]:
        """The guest's machine gets only this share of the time within the block."""
        machine, over = self.machines[name], threading.Event()

        def stutter() -> None:
            while not over.wait(SLICE_S * share):
                machine.freeze()
                over.wait(SLICE_S * (1 - share))
                machine.thaw()

        self.faulty.add(name)
        stuttering = threading.Thread(target=stutter, name=f"slows {name}")
        stuttering.start()
        try:
            yield machine
        finally:
            over.set()
            stuttering.join()
        self.faulty.discard(name)

    @contextlib.contextmanager
    def _fault(self, name: str, begin: Callable[[Machine], None], end: Callable[[Machine], None]) -> Iterator[Machine]:
        self.faulty.add(name)
        begin(self.machines[name])
        yield self.machines[name]
        end(self.machines[name])
        self.faulty.discard(name)

    def logs(self) -> str:
        """What broker and consoles say, for a test that failed."""
        consoles = [f"--- console of {name}\n{machine.console[-4000:]}" for name, machine in self.machines.items()]
        return "\n".join([f"--- broker\n{self.broker.log[-4000:]}", *consoles])


def until(events: Events, wanted: Callable[[Item], bool], timeout_s: float = 90.0) -> list[Item]:
    """Everything up to and with the first item that is wanted. AssertionError when it does not come; the stream is closed then."""
    seen: list[Item] = []
    closing = threading.Timer(timeout_s, events.close)
    closing.start()
    try:
        for item in events:
            seen.append(item)
            if wanted(item):
                return seen
    finally:
        closing.cancel()
        closing.join()
    raise AssertionError(f"it did not come within {timeout_s:g} s, only {seen}")


def is_event(kind: str, guest: str, container: str = "", process: str = "") -> Callable[[Item], bool]:
    """Tells the event of that kind; an empty container or process: of any."""

    def tell(item: Item) -> bool:
        if not isinstance(item, Event) or (item.kind, item.guest) != (kind, guest):
            return False
        return container in ("", item.header.container) and process in ("", item.header.process)

    return tell


def down_reason(events: Events, name: str) -> str:
    """Waits for guest_down of a guest, and why it came."""
    item = until(events, is_event("guest_down", name))[-1]
    assert isinstance(item, Event) and isinstance(item.payload, GuestDown)
    return item.payload.reason


def only_events(items: list[Item]) -> list[Event]:
    """The items, none of which is word of a loss. AssertionError otherwise."""
    lost = [item for item in items if isinstance(item, EventGap | Resync)]
    assert not lost, lost
    return [item for item in items if isinstance(item, Event)]


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    @property
    def s(self) -> float:
        return time.monotonic() - self._began_s


def free_ports(count: int) -> int:
    """The first of `count` ports of 127.0.0.1 in a row that are free now."""
    for first in range(17_700, 30_000, count):
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for port in range(first, first + count):
                taken.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    sys.exit("no six ports in a row are free")
