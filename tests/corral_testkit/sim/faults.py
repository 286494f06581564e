"""What goes wrong, done to a world."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from corral_testkit.sim.guest import SimGuest
from corral_testkit.sim.rival import start_rival
from corral_testkit.sim.scenario import FAULTS, Fault

if TYPE_CHECKING:
    from corral_testkit.sim.simulation import World

FROZEN_BREAKS_S = 6.0
GOT_OVER_S = 30.0
"""So long after a fault its effects may still be felt: silence is noticed, connections are made anew, deadlines pass."""
SLOW_LINE_S = 1.5
AT_ONCE_SHARE = 0.3
"""Of workers that are told to stop; the others are so in the middle of a call of the runtime."""
WRITTEN = ("exit", "created", "started", "exec_started", "deleted", "requests", "containers", "processes", "meta", "exit")
"""Event kinds and tables of the journal."""
HOUR_NS = 3_600 * 10**9


class Faults:
    """Begins faults when they are due and ends what is meant to end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._active: dict[int, str] = {}  # number -> kind, of those under way
        self.kinds: frozenset[str] = frozenset()
        """Of the faults under way."""
        self.rewound: dict[str, list[float]] = defaultdict(list)
        """Guest → when its journal was set back or lost."""
        self._ends: list[Callable[[], None]] = []
        self._troubles: list[tuple[str, float, float, frozenset[str]]] = []  # (kind, from, until it is got over, hosts)

    def quiet(self, hosts: set[str], from_s: float, to_s: float, kinds: Collection[str] = tuple(FAULTS)) -> bool:
        """Whether nothing (of these kinds) was wrong with any of these hosts, nor with a broker."""
        touched = hosts | {host.host.name for host in self._world.brokers}
        return not any(
            kind in kinds and began_s <= to_s and from_s <= over_s and touched & of for kind, began_s, over_s, of in self._troubles
        )

    def schedule(self) -> None:
        for fault in self._world.scenario.faults:
            self._world.loop.call_later(fault.at_s, self._begin, fault)

    def heal_all(self) -> None:
        """Whatever is still wrong is put right, and what is dead is started."""
        world = self._world
        for end in self._ends:
            end()
        self._ends.clear()
        for broker in world.brokers:
            if not broker.process.alive:
                broker.start()
        for guest in world.guests:
            if not guest.kernel.process.alive:
                guest.boot()
            guest.start_worker()
        for client in world.clients:
            client.start()

    def _begin(self, fault: Fault) -> None:
        self._active[fault.number] = fault.kind
        self.kinds = frozenset(self._active.values())
        self._trouble(fault)
        self._world.trace(f"fault {fault.kind}")
        getattr(self, f"_{fault.kind}")(fault)
        self._world.loop.call_later(max(fault.lasts_s, 0.5), self._over, fault)

    def _trouble(self, fault: Fault) -> None:
        now_s = self._world.loop.time()
        self._troubles.append((fault.kind, now_s, now_s + fault.lasts_s + GOT_OVER_S, self._touched(fault)))

    def _touched(self, fault: Fault) -> frozenset[str]:
        """Hosts that notice it: of a line only the far end, since a broker has other lines."""
        brokers = frozenset(broker.host.name for broker in self._world.brokers)
        if fault.kind in ("cut", "half_cut", "reset", "slow_line"):
            return self._line(fault) - brokers
        if fault.kind in ("kill_broker", "freeze_broker", "drops", "duplicates"):
            return brokers
        if fault.kind == "rival":
            return frozenset()
        if fault.kind in ("kill_client", "freeze_client"):
            return frozenset({self._world.clients[fault.target % len(self._world.clients)].host.name})
        return frozenset({self._guest(fault).host.name})

    def _over(self, fault: Fault) -> None:
        del self._active[fault.number]
        self.kinds = frozenset(self._active.values())

    def _after(self, fault: Fault, end: Callable[[], None]) -> None:
        """Ends it in time, or when all is healed."""
        self._ends.append(end)
        self._world.loop.call_later(fault.lasts_s, end)

    def _guest(self, fault: Fault) -> SimGuest:
        return self._world.guests[fault.target % len(self._world.guests)]

    def _on(self, guest: SimGuest) -> bool:
        return guest.kernel.process.alive

    # -- processes ----------------------------------------------------------------------------------------------------------------

    def _kill_client(self, fault: Fault) -> None:
        client = self._world.clients[fault.target % len(self._world.clients)]
        client.kill()
        self._after(fault, client.start)

    def _kill_broker(self, fault: Fault) -> None:
        broker = self._world.brokers[fault.target % len(self._world.brokers)]
        broker.kill()

        def start() -> None:
            if not broker.process.alive:
                broker.start()

        self._after(fault, start)

    def _kill_worker(self, fault: Fault) -> None:
        guest = self._guest(fault)
        guest.kill_worker()
        self._start_worker_after(fault, guest)

    def _stop_worker(self, fault: Fault) -> None:
        """At once, or while it waits for a call of the runtime that makes something."""
        guest = self._guest(fault)

        def stop() -> None:
            self._trouble(fault)
            guest.stop_worker()
            self._start_worker_after(fault, guest)

        if fault.amount < AT_ONCE_SHARE:
            stop()
            return
        guest.at_call(stop)
        self._ends.append(lambda: guest.at_call(None))

    def _start_worker_after(self, fault: Fault, guest: SimGuest) -> None:
        def start() -> None:
            if self._on(guest):
                guest.start_worker()

        self._after(fault, start)

    def _kill_shim(self, fault: Fault) -> None:
        guest = self._guest(fault)
        instances = sorted(guest.shims)
        if instances:
            guest.kill_shim(instances[fault.other % len(instances)])

    def _rival(self, fault: Fault) -> None:
        """Only where every broker that is there can hear the worker it has: else the rival is rightly taken for the guest come back."""
        guest, network = self._guest(fault), self._world.network
        brokers = [broker for broker in self._world.brokers if broker.process.alive]
        worker = guest.worker
        if worker is None or not worker.alive or worker.frozen or any(broker.process.frozen for broker in brokers):
            return
        if any(network.is_cut(frozenset((guest.host.name, one.host.name)), way) for one in brokers for way in ("up", "down")):
            return
        there = [broker for broker in brokers if broker.has(guest.name)]
        if there:
            rival = start_rival(guest, fault.number, [broker.address for broker in there])
            for broker in there:
                broker.process.on_death.append(rival.kill)

    def _freeze_worker(self, fault: Fault) -> None:
        guest = self._guest(fault)
        worker = guest.worker
        if worker is not None and worker.alive:
            worker.freeze()

            def thaw() -> None:
                if worker.alive and worker.frozen:
                    if fault.lasts_s > FROZEN_BREAKS_S and fault.amount < 0.5:
                        self._world.network.frozen_too_long(worker)
                    worker.thaw()

            self._after(fault, thaw)

    def _freeze_broker(self, fault: Fault) -> None:
        process = self._world.brokers[fault.target % len(self._world.brokers)].process
        process.freeze()
        if fault.lasts_s > FROZEN_BREAKS_S:
            self._world.loop.call_later(FROZEN_BREAKS_S + fault.amount, self._world.network.unanswered_by, process)
        self._after(fault, process.thaw)

    def _freeze_client(self, fault: Fault) -> None:
        client = self._world.clients[fault.target % len(self._world.clients)]
        process = client.process
        if process is not None and process.alive:
            client.disturb()
            process.freeze()
            self._after(fault, process.thaw)

    # -- network ------------------------------------------------------------------------------------------------------------------

    def _line(self, fault: Fault) -> frozenset[str]:
        """Between a broker and somebody who talks to it."""
        world = self._world
        broker = world.brokers[fault.other % len(world.brokers)].host.name
        others = [guest.host.name for guest in world.guests] + [client.host.name for client in world.clients]
        return frozenset((broker, others[fault.target % len(others)]))

    def _cut(self, fault: Fault) -> None:
        hosts = self._line(fault)
        self._world.network.cut(hosts)
        self._after(fault, lambda: self._world.network.heal(hosts))

    def _half_cut(self, fault: Fault) -> None:
        """One way alone."""
        hosts = self._line(fault)
        self._world.network.cut(hosts, "up" if fault.amount < 0.5 else "down")
        self._after(fault, lambda: self._world.network.heal(hosts))

    def _reset(self, fault: Fault) -> None:
        self._world.network.break_between(self._line(fault))

    def _slow_line(self, fault: Fault) -> None:
        hosts = self._line(fault)
        self._world.network.slow[hosts] = SLOW_LINE_S * fault.amount

        def end() -> None:
            self._world.network.slow.pop(hosts, None)

        self._after(fault, end)

    def _duplicates(self, fault: Fault) -> None:
        for broker in self._world.brokers:
            broker.duplicate_share = 0.3 + 0.7 * fault.amount
            self._after(fault, lambda broker=broker: setattr(broker, "duplicate_share", 0.0))  # type: ignore[misc]

    def _drops(self, fault: Fault) -> None:
        for broker in self._world.brokers:
            broker.drop_share = 0.1 + 0.8 * fault.amount
            self._after(fault, lambda broker=broker: setattr(broker, "drop_share", 0.0))  # type: ignore[misc]

    # -- disk, runtime, clock, power --------------------------------------------------------------------------------------------------

    def _disk_full(self, fault: Fault) -> None:
        disk = self._guest(fault).disk
        disk.full = disk.was_full = True
        self._after(fault, lambda: setattr(disk, "full", False))

    def _slow_disk(self, fault: Fault) -> None:
        disk = self._guest(fault).disk
        disk.slow_s = fault.amount
        self._after(fault, lambda: setattr(disk, "slow_s", 0.0))

    def _slow_runtime(self, fault: Fault) -> None:
        guest = self._guest(fault)
        guest.slow_s = 2 * fault.amount
        self._after(fault, lambda: setattr(guest, "slow_s", 0.0))

    def _clock_jump(self, fault: Fault) -> None:
        self._guest(fault).host.wall_offset_ns += int((fault.amount - 0.5) * 4 * HOUR_NS)

    def _power_cut(self, fault: Fault) -> None:
        guest = self._guest(fault)
        if self._on(guest):
            guest.power_cut()
            self._after(fault, lambda: self._boot(guest))

    def _crash_at_write(self, fault: Fault) -> None:
        """The worker is killed or told to stop, or the power goes, while the journal writes something of that kind."""
        guest = self._guest(fault)
        what = WRITTEN[int(fault.amount * len(WRITTEN))]

        def crash() -> None:
            self._trouble(fault)
            if fault.other % 4 == 0 and self._on(guest):
                guest.power_cut()
                self._after(fault, lambda: self._boot(guest))
                return
            if fault.other % 4 == 1:
                guest.stop_worker()
            else:
                guest.kill_worker()
            self._start_worker_after(fault, guest)

        guest.disk.crash_at(what, crash)
        self._ends.append(guest.disk.disarm)

    def _boot(self, guest: SimGuest) -> None:
        if not self._on(guest):
            guest.boot()

    def _rewind(self, fault: Fault) -> None:
        """A snapshot now; after a while the power goes, and the disk is set back to it."""
        guest = self._guest(fault)
        if self._on(guest):
            guest.take_snapshot()
            self._world.loop.call_later(fault.lasts_s, self._set_back, guest)

    def _set_back(self, guest: SimGuest) -> None:
        """Only where it can be noticed: every broker that is there has seen more than the snapshot holds."""
        if not self._on(guest) or self._world.healed:
            return
        epoch, seq = guest.snapshot_place()
        for broker in self._world.brokers:
            seen = broker.best_seen(guest.name)
            if seen is None or (seen.epoch == epoch and seen.seq < seq + SEEN_MARGIN):
                return
        self.rewound[guest.name].append(self._world.loop.time())
        guest.power_cut()
        guest.rewind()
        guest.boot()

    def _lose_journal(self, fault: Fault) -> None:
        """The worker ends, and its journal is found unreadable."""
        guest = self._guest(fault)
        if self._on(guest):
            guest.kill_worker()
            guest.disk.lose_journal()
            self.rewound[guest.name].append(self._world.loop.time())
            self._start_worker_after(fault, guest)


SEEN_MARGIN = 1
"""Events beyond the snapshot that every broker must know of."""
