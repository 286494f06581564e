"""Taking over: what a starting worker makes of the journal, the shims that live and the directories that are there.

Also what is made of a container whose shim died: its exits are read from what the shim left on disk; what it could not write is `lost`.
"""

import asyncio
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from corral_schemas.errors import error
from corral_schemas.events import WorkerStarted
from corral_schemas.exits import Exit
from corral_worker import __version__
from corral_worker.commands.execution import settle
from corral_worker.containers.guest import Guest
from corral_worker.containers.rebuild import read_notes
from corral_worker.containers.remains import end_processes
from corral_worker.containers.spools import LOST_WITH_GUEST, LOST_WITH_SHIM
from corral_worker.journal.records import ContainerRecord, RequestRecord
from corral_worker.reconcile.drift import look
from corral_worker.reconcile.janitor import sweep
from corral_worker.reconcile.notices import Notices, exit_at_rest
from corral_worker.reconcile.reach import reach
from corral_worker.reconcile.truncated_output import end_streams, kept_of
from corral_worker.shim.ledger.record import read_record
from corral_worker.shim.spool.end_file import END_FILE_NAME, read_end
from corral_worker.shims.port import Body

log = logging.getLogger(__name__)

SWEEP_TIMEOUT_MS = 10_000


def boot_id() -> str:
    """Changes at every boot of the guest (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Silent:
    """A container whose shim neither answers nor is seen to be dead."""

    container: ContainerRecord
    reached: "asyncio.Task[bool]"
    unfinished: list[RequestRecord]
    """Commands that were under way on it: what became of them only its shim can say."""
    from_disk: bool


@dataclass(frozen=True)
class TakenOver:
    """What is left to do after taking over."""

    unfinished: list[RequestRecord]
    """Commands that were under way, to be gone on with."""
    silent: list[Silent]


async def take_over(guest: Guest, notices: Notices, *, journal_is_new: bool) -> TakenOver:
    """Adopt every container of the journal whose shim answers or is dead; `adopt_late` is for the others.

    With a new journal, containers whose shims live are adopted from what their directories tell.
    """
    journal = guest.journal
    in_journal = journal.store.live_containers()  # before anything is adopted from disk: that is here already
    silent = await _adopt_from_disk(guest, notices) if journal_is_new else []
    guest.boot = boot_id()
    rebooted = journal.boot_id not in ("", guest.boot)
    unfinished = journal.store.unfinished_requests()
    for container in in_journal:
        guest.adopt_container(container, journal.store.processes(container.instance))
    reached = await reach(guest, [] if rebooted else [container.instance for container in in_journal])
    adopted = lost = 0
    for container in in_journal:
        on_it = [record for record in unfinished if record.instance == container.instance]
        task = reached.get(container.instance)
        if task is not None and not task.done():
            unfinished = [record for record in unfinished if record not in on_it]
            silent.append(Silent(container, task, on_it, from_disk=False))
        elif task is not None and task.result() and _is_the_one(guest, container):
            adopted += 1
        else:
            lost += await _bury_or_go_on(guest, notices, container, on_it, rebooted=rebooted)
            unfinished = [record for record in unfinished if not record.done]
    journal.set_meta("boot_id", guest.boot)  # only now: whoever dies before this has the next one see the reboot too
    await sweep(guest)
    journal.event("worker_started", WorkerStarted(version=__version__, adopted=adopted, lost=lost))
    return TakenOver(unfinished, silent)


async def adopt_late(guest: Guest, notices: Notices, silent: Silent) -> None:
    """Wait until the shim answers or is seen to be dead, and do then what `take_over` does for the others."""
    container = silent.container
    connected = await silent.reached
    log.warning("container %s: its shim, silent at the start, %s", container.name, "answers" if connected else "is gone")
    if silent.from_disk:
        _adopt_as_told(guest, notices, container, connected=connected)
    elif not connected or not _is_the_one(guest, container):
        await _bury_or_go_on(guest, notices, container, silent.unfinished, rebooted=False)


async def _bury_or_go_on(guest: Guest, notices: Notices, container: ContainerRecord, on_it: list[RequestRecord], *, rebooted: bool) -> int:
    """End a container without its shim, unless its making was never begun. Return how many processes are `lost`."""
    making = [record for record in on_it if record.op in ("create", "run")] if container.status == "creating" else []
    if making and not rebooted and not _was_begun(guest, container):
        log.info("container %s was being created; going on with it", container.name)
        return 0
    for record in making:
        _unknown(guest, record)
    return await record_lost_container(guest, notices, container, LOST_WITH_GUEST if rebooted else LOST_WITH_SHIM)


def _is_the_one(guest: Guest, container: ContainerRecord) -> bool:
    """The shim that answers is the one that started the container, not one that a worker, which did not live to record the container's end,
    had forked to delete or to exec in what was left of it."""
    init = guest.processes[container.instance][container.init]
    known = {one["instance"] for one in guest.links[container.instance].state["processes"]}
    if not init.pid or init.exit is not None or init.instance in known:
        return True
    log.warning("container %s: the shim that answers is a new one, which does not know it", container.name)
    return False


def _was_begun(guest: Guest, container: ContainerRecord) -> bool:
    """Its shim died, and had begun to make it: whether it ran nobody knows."""
    intents = read_record(guest.settings.paths.shim_record(container.instance))
    return any(step in ("create", "run") for _, step in intents)


def _unknown(guest: Guest, record: RequestRecord) -> None:
    """The request ends here: it must not be carried out a second time."""
    text = f"{record.op} was under way when the guest, or its shim without a worker, ended; what there was of it is removed"
    settle(guest, record, error("outcome_unknown", text))


async def _adopt_from_disk(guest: Guest, notices: Notices) -> list[Silent]:
    """The journal is gone, the containers are not: their records are made again, and say what their shims say."""
    containers: list[ContainerRecord] = []
    for container, processes in read_notes(guest.settings.paths.instances):
        guest.adopt_container(container, processes)
        containers.append(container)
    reached = await reach(guest, [container.instance for container in containers])
    silent: list[Silent] = []
    for container in containers:
        task = reached[container.instance]
        if task.done():
            _adopt_as_told(guest, notices, container, connected=task.result())
        else:
            silent.append(Silent(container, task, [], from_disk=True))
    return silent


def _adopt_as_told(guest: Guest, notices: Notices, container: ContainerRecord, *, connected: bool) -> None:
    """Make a container's records say what its shim says; without one, the janitor removes what there is of it."""
    seen = {one["instance"]: one for one in guest.links[container.instance].state["processes"]} if connected else {}
    if container.init not in seen:  # it was only about to be created
        guest.forget_container(container)
        return
    for process in list(guest.processes[container.instance].values()):
        if process.instance not in seen:
            guest.forget_process(process)  # it never started
            continue
        process.pid = int(seen[process.instance]["pid"])
        guest.journal.save(process)
    _set_status(guest, container)
    for process in list(guest.processes[container.instance].values()):
        if process.exit is None and seen[process.instance].get("exit"):
            told = seen[process.instance]
            notices.record_exit(container, process, exit_at_rest(told["exit"], told["streams"]))
    log.warning("container %s was adopted from its directory", container.name)


def _set_status(guest: Guest, container: ContainerRecord) -> None:
    frozen, waiting = look(guest.settings.paths, container.instance)
    container.started = not waiting
    if guest.processes[container.instance][container.init].exit is None:  # else its shim has told of it already
        container.status = "paused" if frozen else "created" if waiting else "running"
    guest.journal.save(container)


async def record_lost_container(guest: Guest, notices: Notices, container: ContainerRecord, reason: str) -> int:
    """Ends what is left of a container without a shim and gives every process its exit. Returns how many are `lost`."""
    paths = guest.settings.paths
    if not container.buried:
        container.buried = True
        guest.journal.save(container)
    await end_processes(guest, container.instance)
    lost = 0
    if container.instance not in guest.containers:  # its failed create was cleaned up meanwhile
        return 0
    if container.status == "creating" and not any(one.pid for one in guest.processes[container.instance].values()):
        guest.forget_container(container)
        await asyncio.to_thread(shutil.rmtree, paths.container(container.instance), ignore_errors=True)
        return 0
    for process in sorted(guest.processes[container.instance].values(), key=lambda one: one.init):  # init last
        directory = paths.process(container.instance, process.instance)
        if process.exit is None and not process.pid:
            continue
        kept = kept_of(directory, process, torn=reason == LOST_WITH_GUEST)
        if process.exit is None:
            end = _exit_on_disk(directory)
            if end is None:
                streams = {**kept, **process.ends}
                end = Exit(type="lost", reason=reason, started_ns=process.started_ns, exited_ns=time.time_ns(), streams=streams)
                lost += 1
            notices.record_exit(container, process, end)
        end_streams(guest, notices, container, process, kept, rebooted=reason == LOST_WITH_GUEST)
    log.warning("container %s ended without its shim (%s): %d processes lost", container.name, reason, lost)
    return lost


def _exit_on_disk(directory: Path) -> Exit | None:
    left: Body | None = read_end(directory / END_FILE_NAME)
    if left is None or not left.get("exit"):
        return None
    return exit_at_rest(left["exit"], left["streams"])
