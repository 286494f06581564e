"""Notices when somebody used the runtime by hand: what its state directory says is compared with the journal now and then."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from corral_schemas.errors import CorralError
from corral_schemas.events import Deleted, Paused, Resumed, Started
from corral_schemas.stdio import Done
from corral_worker.base.paths import GuestPaths
from corral_worker.commands.execution import internal_execution
from corral_worker.commands.handlers.delete import remove_container
from corral_worker.containers import lifecycle
from corral_worker.containers.guest import Guest
from corral_worker.journal.records import ContainerRecord
from corral_worker.runtime import cgroups

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
DELETE_TIMEOUT_S = 60.0
STATE_FILES = ("state.json", "status")
"""Where runc and crun write a container's state."""
Freezers = dict[str, dict[str, Path]]
"""Instance → controller (v1: `freezer`, v2: the empty name) → directory."""


class Drift:
    """Turns drift into events. Exits need no look: a shim sees them, whoever caused them."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._freezers: Freezers = {}

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.compare()

    async def compare(self) -> None:
        """One round: all at a glance, and those that seem to have changed once more in their turn, never while a command changes them."""
        seen = {one.instance: one.status for one in self._guest.containers.values() if one.status != "creating"}
        for instance in await asyncio.to_thread(self._seem_changed, seen):
            if (container := self._guest.containers.get(instance)) is None:
                continue
            async with self._guest.turns.ordered(container.name, None):
                if container.instance not in self._guest.containers:
                    continue
                if container.status == "stopped":
                    await self._compare_stopped(container)
                else:
                    await self._compare(container)

    def _seem_changed(self, seen: Mapping[str, str]) -> list[str]:
        """Which instances of these, each with its status, are not as the journal has them."""
        paths = self._guest.settings.paths
        self._freezers = {instance: known for instance, known in self._freezers.items() if instance in seen}
        return [instance for instance, status in seen.items() if self._seems_changed(paths, instance, status)]

    def _seems_changed(self, paths: GuestPaths, instance: str, status: str) -> bool:
        if status == "stopped":
            return not (paths.runtime_root / instance).exists()
        frozen, waiting = look(paths, instance, self._freezers)
        return frozen != (status == "paused") or (status == "created" and not waiting)

    async def _compare_stopped(self, container: ContainerRecord) -> None:
        """One that the runtime no longer has was deleted there, but for one whose state may have gone with its shim or a reboot."""
        link = self._guest.links.get(container.instance)
        state = self._guest.settings.paths.runtime_root / container.instance
        if container.buried or link is None or not link.alive or await asyncio.to_thread(state.exists):
            return
        self._say(container, "deleted")
        execution = internal_execution(self._guest, f"drift/{container.instance}", Done(), timeout_s=DELETE_TIMEOUT_S)
        try:
            await remove_container(self._guest, container, execution, Deleted(reason="drift"))
        except CorralError as why:
            log.warning("drift: what is left of container %s cannot be removed: %s", container.name, why)
            return
        await self._guest.journal.durable()
        execution.acknowledge()

    async def _compare(self, container: ContainerRecord) -> None:
        frozen, waiting = await asyncio.to_thread(look, self._guest.settings.paths, container.instance)
        journal = self._guest.journal
        init = self._guest.processes[container.instance][container.init]
        if init.exit is not None:
            return
        if container.status == "created" and not waiting:
            self._say(container, "started")
            lifecycle.apply(container, "started")
            journal.event("started", Started(pid=init.pid), container, init)
        elif frozen and container.status in ("created", "running"):
            self._say(container, "paused")
            lifecycle.apply(container, "paused")
            journal.event("paused", Paused(), container)
        elif not frozen and container.status == "paused":
            self._say(container, "resumed")
            lifecycle.apply(container, "resumed")
            journal.event("resumed", Resumed(), container)
            self._guest.waiters.tell_changed(init)
        else:
            return
        journal.save(container)

    def _say(self, container: ContainerRecord, what: str) -> None:
        log.warning("drift: container %s was %s by somebody else than Corral", container.name, what)


def look(paths: GuestPaths, instance: str, known: Freezers | None = None) -> tuple[bool, bool]:
    """(frozen, init still waits for start), from the cgroup's freezer and the runtime's exec.fifo.

    `known` keeps where the freezers are, for the next look: to find them takes ten times as long as the rest.
    """
    freezers = known.get(instance) if known is not None else None
    if freezers is None:
        freezers = {name: path for name, path in cgroups.cgroup_paths(paths, instance).items() if name in ("freezer", "")}
        if known is not None and freezers:
            known[instance] = freezers
    directory = paths.runtime_root / instance
    waiting = (directory / "exec.fifo").exists() or not any((directory / name).exists() for name in STATE_FILES)
    return cgroups.is_frozen(freezers), waiting
