"""delete, and the removal of a container that others need too (auto-delete, a run that could not start)."""

import asyncio
import logging
from pathlib import Path

import msgspec

from corral_schemas.commands import DeleteArgs
from corral_schemas.errors import CorralError, error
from corral_schemas.events import Deleted
from corral_schemas.stdio import Done
from corral_worker.commands.execution import Execution, internal_execution
from corral_worker.containers import lifecycle
from corral_worker.containers.environments import forget_container
from corral_worker.containers.guest import Guest, no_shim
from corral_worker.journal.records import ContainerRecord
from corral_worker.runtime.host_files import remove_name_files
from corral_worker.runtime.overlay import has_layer, remove_layer
from corral_worker.shims.port import Body, ShimGoneError

log = logging.getLogger(__name__)

KILL_WAIT_S = 10.0
EXIT_WAIT_S = 2.0
EVENT_TEXT_CHARS_MAX = 1_000
AUTO_DELETE_TIMEOUT_S = 60.0


async def delete(guest: Guest, args: DeleteArgs, execution: Execution) -> Done:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        if execution.redo and execution.record.instance and execution.record.instance not in guest.containers:
            return Done()  # it was deleted before the restart
        container = guest.find_container(args.container, args.instance)
        if args.process:
            execution.check_not_cancelled()
            return _free_process(guest, container, args.process)
        if execution.record.instance != container.instance:
            execution.remember(container)
        if args.force:
            await _kill_all(guest, container, execution)
        lifecycle.check("delete", container)
        await remove_container(guest, container, execution, Deleted())
        return Done()


def _free_process(guest: Guest, container: ContainerRecord, process_id: str) -> Done:
    process = guest.find_process(container, guest.processes[container.instance], process_id)
    if process.init:
        raise error("bad_request", "init is deleted with its container; name an exec, or no process")
    if process.exit is None:
        raise error("container_not_stopped", f"process {process_id} of {container.name} still runs", process=process_id)
    process.freed = True
    guest.journal.save(process)
    return Done()


async def _kill_all(guest: Guest, container: ContainerRecord, execution: Execution) -> None:
    """SIGKILL to everything in a container that is not stopped, and the wait for its end."""
    if container.status not in ("running", "paused"):
        return
    link = await guest.shim(container)
    await execution.step(link, "signal", suffix="/kill", process=container.init, signal=9, all=True)
    init = guest.processes[container.instance][container.init]
    try:
        async with asyncio.timeout(min(KILL_WAIT_S, execution.left_ms() / 1000)):
            await guest.waiters.exited(init)
    except TimeoutError:
        raise error("deadline_exceeded", f"container {container.name} has not ended after SIGKILL") from None


async def remove_container(guest: Guest, container: ContainerRecord, execution: Execution, why: Deleted, *, suffix: str = "") -> None:
    """Has the runtime delete it, then records that. Safe to repeat. Raises the error of the runtime."""
    try:
        link = await guest.shim(container)
    except (ShimGoneError, OSError) as reason:
        raise no_shim(reason, "no shim could be started for the deletion") from reason
    log_path = Path(guest.settings.paths.container(container.instance)) / "delete.log"
    # not after the intent is on disk: deleting again is harmless
    # --force even for a stopped one: it also cleans what a container lost with its shim has left behind
    runtime = guest.settings.runtime
    argv = runtime.delete(container.instance, log_path, force=True)
    async with guest.turns.runtime_slot(None if link.knows(execution.id + suffix, "delete") else execution.deadline_s):
        link.closing = True  # it may end as soon as its answer is acknowledged
        try:
            body: Body = {"argv": argv, "log": str(log_path), "timeout_ms": execution.left_ms(), "plain_runc": runtime.is_plain_runc}
            ok = await execution.step(link, "delete", suffix=suffix, **body)
        except CorralError:
            link.closing = False
            raise
    if warning := str(ok.get("warning", "")):
        log.warning("container %s was deleted, but the runtime says: %s", container.name, warning)
        why = msgspec.structs.replace(why, warning=warning[:EVENT_TEXT_CHARS_MAX])
    await _last_exits(guest, container)
    await _forget_environments(guest, container)
    lifecycle.apply(container, "deleted")
    guest.mark_deleted(container)
    guest.journal.event("deleted", why, container)
    directory = guest.settings.paths.bundle(container.instance)
    remove_name_files(directory)
    if has_layer(directory):
        await asyncio.to_thread(remove_layer, directory)


async def _forget_environments(guest: Guest, container: ContainerRecord) -> None:
    """Before it counts as deleted: a worker that ends in between does it again."""
    try:
        await asyncio.to_thread(forget_container, guest.settings.paths, container.instance)
    except OSError as why:
        log.error("container %s: its environment stays on disk until its output goes: %s", container.name, why)


async def _last_exits(guest: Guest, container: ContainerRecord) -> None:
    """Deleting a created container ends its init: that exit comes before `deleted`."""
    running = [one for one in guest.processes[container.instance].values() if one.pid and one.exit is None]
    try:
        async with asyncio.timeout(EXIT_WAIT_S):
            for process in running:
                await guest.waiters.exited(process)
    except TimeoutError:
        log.error("container %s: the runtime deleted it but no exit of %s came", container.name, [one.id for one in running])


async def auto_delete(guest: Guest, container: ContainerRecord) -> None:
    """Deletes an auto-delete container after its exit and the end of its output."""
    execution = internal_execution(guest, f"auto-delete/{container.instance}", Done(), timeout_s=AUTO_DELETE_TIMEOUT_S)
    async with guest.turns.ordered(container.name, None):
        if container.instance in guest.containers:
            await remove_container(guest, container, execution, Deleted(reason="auto_delete"))
            await guest.journal.durable()
            execution.acknowledge()
