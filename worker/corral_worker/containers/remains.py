"""What a container without a shim leaves: processes, cgroups, the runtime's state, directories. Removing them is safe to repeat."""

import asyncio
import logging
import shutil

from corral_worker.containers.guest import Guest
from corral_worker.shim.cgroup.cgroup import Cgroup, cgroup_at, find_cgroup

log = logging.getLogger(__name__)

KILL_TIMEOUT_S, KILL_PASS_S = 5.0, 0.005


async def end_processes(guest: Guest, instance: str) -> Cgroup:
    """Kills until nothing lives in the container's cgroup (the zygote may be doing the same)."""
    cgroup = find_cgroup(guest.settings.paths.run, guest.settings.paths.state, instance)
    await _end_all_in(cgroup, instance)
    return cgroup


async def remove_lone_cgroup(guest: Guest, instance: str) -> None:
    """Ends and removes what is in the cgroup that Corral gives to a container, where nothing else says which one it has."""
    cgroup = cgroup_at(guest.settings.cgroup(instance))
    await _end_all_in(cgroup, instance)
    await asyncio.to_thread(cgroup.remove)


async def _end_all_in(cgroup: Cgroup, instance: str) -> None:
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S):
            while not await asyncio.to_thread(cgroup.kill):
                await asyncio.sleep(KILL_PASS_S)
    except TimeoutError:
        log.error("instance %s: processes %s do not end after SIGKILL", instance, sorted(cgroup.pids()))


async def remove_remains(guest: Guest, instance: str) -> None:
    """Removes all of an instance that nobody owns. While its cgroup resists, what says where that is stays, for the janitor."""
    cgroup = await end_processes(guest, instance)
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S):
            while not await asyncio.to_thread(cgroup.remove):
                await asyncio.sleep(KILL_PASS_S)
    except TimeoutError:
        log.error("instance %s: its cgroup cannot be removed yet", instance)
        return
    await asyncio.to_thread(_remove, guest, instance)


def _remove(guest: Guest, instance: str) -> None:
    paths = guest.settings.paths
    paths.shim_socket(instance).unlink(missing_ok=True)
    paths.pid_file(instance).unlink(missing_ok=True)
    shutil.rmtree(paths.runtime_root / instance, ignore_errors=True)
    shutil.rmtree(paths.container(instance), ignore_errors=True)
