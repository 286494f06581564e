"""Notices when somebody used the runtime by hand: what its state directory says is compared with the journal now and then."""

import asyncio
import logging
from pathlib import Path

from corral_schemas.errors import CorralError
from corral_schemas.events import Deleted, Paused, Resumed, Started
from corral_schemas.stdio import Done
from corral_worker import cgroups, lifecycle
from corral_worker.flight import internal_flight
from corral_worker.guest import Guest
from corral_worker.handlers.delete import remove_container
from corral_worker.journal.records import ContainerRecord

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
DELETE_TIMEOUT_S = 60.0


class Drift:
    """Turns drift into events. Exits need no look: a shim sees them, whoever caused them."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.compare()

    async def compare(self) -> None:
        """One round over all containers that live."""
        for container in list(self._guest.containers.values()):
            if container.status != "creating":
                async with self._guest.turns.ordered(container.name, None):  # never while a command changes it
                    if container.instance not in self._guest.containers:
                        continue
                    if container.status == "stopped":
                        await self._compare_stopped(container)
                    else:
                        await self._compare(container)

    async def _compare_stopped(self, container: ContainerRecord) -> None:
        """One that the runtime no longer has was deleted there, but for one whose state may have gone with its shim or a reboot."""
        link = self._guest.links.get(container.instance)
        state = self._guest.settings.paths.runtime_root / container.instance
        if container.buried or link is None or not link.alive or await asyncio.to_thread(state.exists):
            return
        self._say(container, "deleted")
        flight = internal_flight(self._guest, f"drift/{container.instance}", Done(), timeout_s=DELETE_TIMEOUT_S)
        try:
            await remove_container(self._guest, container, flight, Deleted(reason="drift"))
        except CorralError as why:
            log.warning("drift: what is left of container %s cannot be removed: %s", container.name, why)
            return
        await self._guest.journal.durable()
        flight.acknowledge()

    async def _compare(self, container: ContainerRecord) -> None:
        root = self._guest.settings.paths.runtime_root
        frozen, waiting = await asyncio.to_thread(look, root, container.instance)
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
        else:
            return
        journal.save(container)

    def _say(self, container: ContainerRecord, what: str) -> None:
        log.warning("drift: container %s was %s by somebody else than Corral", container.name, what)


def look(root: Path, instance: str) -> tuple[bool, bool]:
    """(frozen, init still waits for start), from the cgroup's freezer and the runtime's exec.fifo."""
    paths = cgroups.cgroup_paths(root, instance)
    waiting = (root / instance / "exec.fifo").exists() or not (root / instance / "state.json").exists()
    return cgroups.is_frozen(paths), waiting
