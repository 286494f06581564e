"""The janitor: removes what nobody owns (directories, shims, their sockets, cgroups, the runtime's state), and says what it removed."""

import asyncio
import logging
import os
from itertools import islice

from corral_schemas.names import is_instance
from corral_worker.containers.guest import Guest
from corral_worker.containers.remains import end_processes, remove_lone_cgroup, remove_remains
from corral_worker.reconcile.reach import DEAD
from corral_worker.runtime import cgroups
from corral_worker.shims.port import ShimGoneError

log = logging.getLogger(__name__)

SWEEP_TIMEOUT_MS = 10_000
PAGE = 500
"""Directories that are looked at in one turn of the loop."""


async def sweep(guest: Guest) -> None:
    """One round. What cannot be removed is found again by the next one."""
    paths = guest.settings.paths
    found = {"directory": await _stray_directories(guest)}
    # all looked at in one moment, with what is known: what is made while we clean up is nobody's stray
    found |= {
        "shim": {path.stem for path in paths.sockets.glob("*.sock")},
        "runtime state": {path.name for path in paths.runtime_root.iterdir()},
        "cgroup": cgroups.children(guest.settings.cgroup_parent),
    }
    # what is not named after an instance is somebody else's: a container that was run there by hand, what a runtime keeps for itself
    found = {kind: {name for name in names if is_instance(name)} for kind, names in found.items()}
    unknown = _unknown(guest, list(set().union(*found.values())))
    _remove_console_sockets(guest)
    for instance in sorted(found["shim"] - unknown - set(guest.containers)):  # a worker ended between the deletion and its acknowledgement
        log.warning("instance %s is deleted, but its shim is still there: ending it", instance)
        if await _end_stray_shim(guest, instance):
            paths.shim_socket(instance).unlink(missing_ok=True)
    for instance in sorted(unknown):
        what = [kind for kind, instances in found.items() if instance in instances]
        log.warning("instance %s belongs to no container: removing its %s", instance, ", ".join(what))
        await end_processes(guest, instance)
        if await _end_stray_shim(guest, instance):
            await remove_remains(guest, instance)
            if "cgroup" in what:
                await remove_lone_cgroup(guest, instance)


async def _stray_directories(guest: Guest) -> set[str]:
    """Page by page: of very many deleted containers something is kept, and neither memory nor a turn of the loop is to grow with them."""
    strays: set[str] = set()
    with os.scandir(guest.settings.paths.instances) as entries:
        while page := [entry.name for entry in islice(entries, PAGE)]:
            strays |= _unknown(guest, page)
            await asyncio.sleep(0)
    return strays


def _unknown(guest: Guest, instances: list[str]) -> set[str]:
    """Those that are neither in the journal nor being made."""
    asked = [instance for instance in instances if instance not in guest.containers]
    known = guest.journal.store.known_containers
    return set(asked).difference(*(known(asked[at : at + PAGE]) for at in range(0, len(asked), PAGE)))


def _remove_console_sockets(guest: Guest) -> None:
    """A shim that was killed while a process with a terminal was being made has left one."""
    alive = {instance for processes in guest.processes.values() for instance in processes}
    for socket in guest.settings.paths.sockets.glob("*.tty"):
        if socket.stem not in alive:
            log.warning("console socket %s belongs to no container: removing it", socket.name)
            socket.unlink(missing_ok=True)


async def _end_stray_shim(guest: Guest, instance: str) -> bool:
    """A shim ends once the deletion of its container is acknowledged. False: it would not, and must be found again by what it left."""
    link = guest.links.get(instance)
    if link is None or not link.alive:  # one that is ours would refuse a second connection of this worker
        try:
            link = await guest.connect_shim(instance)
        except DEAD:  # there is none, as a rule
            return True
        except OSError as why:
            log.warning("the shim of stray instance %s does not answer, and will be asked again: %s", instance, why or type(why).__name__)
            return False
    link.closing = True
    for pending in link.state.get("pending", []):  # a call that hangs would keep the deletion, and us, until its deadline
        link.tell({"t": "cancel", "id": pending["id"]})
    log_path = guest.settings.paths.container(instance) / "sweep.log"
    argv = guest.settings.runtime.delete(instance, log_path, force=True)
    try:
        response = await link.request("sweep", "delete", argv=argv, log=str(log_path), timeout_ms=SWEEP_TIMEOUT_MS)
    except ShimGoneError:
        log.warning("the shim of stray instance %s was gone before its container was deleted", instance)
        return True
    link.acknowledge("sweep", "delete")
    if "error" in response:
        log.error("stray instance %s could not be deleted, and will be tried again: %s", instance, response["error"])
    return "ok" in response
