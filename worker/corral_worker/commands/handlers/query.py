"""state, list, ps, stats, wait, replay: answered from the journal's state, from /proc and from cgroups; nothing here calls the runtime."""

import asyncio
import time
from datetime import UTC, datetime

import msgspec

from corral_schemas.commands import ContainerTarget
from corral_schemas.containers import ContainerProcessState, ContainerState, ProcessInfo
from corral_schemas.errors import error
from corral_schemas.limits import REPLAY_BYTES_MAX
from corral_schemas.queries import (
    ContainerStatsReply,
    ListArgs,
    ListReply,
    PsArgs,
    PsReply,
    ReplayArgs,
    ReplayReply,
    StateReply,
    WaitArgs,
    WaitReply,
)
from corral_worker.containers.guest import Guest
from corral_worker.containers.spools import Spools
from corral_worker.journal.records import ContainerRecord, EventRecord, ProcessRecord
from corral_worker.runtime import cgroups


async def state(guest: Guest, args: ContainerTarget) -> StateReply:
    container = guest.find_container(args.container, args.instance)
    reply = StateReply(state=container_state(guest, container), place=guest.journal.place())
    await guest.journal.durable()
    return reply


async def list_(guest: Guest, args: ListArgs) -> ListReply:
    # one that is being created is not there yet: if that fails, no event would tell that it went
    there = [container for container in guest.containers.values() if container.status != "creating"]
    states = [container_state(guest, container) for container in there]
    reply = ListReply(containers=states, place=guest.journal.place())
    await guest.journal.durable()
    return reply


def container_state(guest: Guest, container: ContainerRecord) -> ContainerState:
    processes = guest.processes[container.instance]
    init = processes[container.init]
    return ContainerState(
        oci_version=container.oci_version,
        id=container.name,
        pid=0 if init.exit else init.pid,
        bundle_path=container.bundle_path,
        rootfs_path=container.rootfs_path,
        status=container.status if container.status != "deleted" else "stopped",
        created=_rfc3339(container.created_ns),
        instance=container.instance,
        guest=guest.settings.guest,
        auto_delete=container.auto_delete,
        processes=[_info(one) for one in sorted(processes.values(), key=lambda one: (not one.init, one.instance)) if not one.freed],
    )


def _rfc3339(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat().replace("+00:00", "Z") if time_ns else ""


def _info(process: ProcessRecord) -> ProcessInfo:
    return ProcessInfo(
        process=process.id,
        instance=process.instance,
        pid=0 if process.exit else process.pid,
        tty=process.tty,
        args=process.args,
        started_ns=process.started_ns,
        exit=process.exit,
        blocked_since_ns=process.blocked_since_ns,
    )


async def ps(guest: Guest, args: PsArgs) -> PsReply:
    container = guest.find_container(args.container, args.instance)
    ours = {one.pid: one for one in guest.processes[container.instance].values() if one.pid and not one.freed}
    seen = await asyncio.to_thread(_seen, guest, container.instance, zombies=args.all)
    found = []
    for process in seen:
        record = ours.get(process.pid)
        alive = record if record is not None and record.exit is None else None
        if process.is_zombie and not args.all:
            continue
        found.append(_named(process, alive))
    if args.all:
        ended = [one for one in ours.values() if one.exit is not None]
        found += [ContainerProcessState(pid=one.pid, command=one.args, created_by_runtime=True, process=one.id) for one in ended]
    return PsReply(processes=found)


def _seen(guest: Guest, instance: str, *, zombies: bool) -> list[ContainerProcessState]:
    pids = cgroups.pids_in(cgroups.cgroup_paths(guest.settings.paths, instance))
    if zombies:
        pids = sorted({*pids, *cgroups.ended_children(pids)})
    return [found for pid in pids if (found := cgroups.process_state(pid)) is not None]


def _named(process: ContainerProcessState, record: ProcessRecord | None) -> ContainerProcessState:
    if record is None:
        return process
    return ContainerProcessState(
        pid=process.pid, command=process.command, created_by_runtime=True, is_zombie=process.is_zombie, process=record.id
    )


async def stats(guest: Guest, args: ContainerTarget, spools: Spools) -> ContainerStatsReply:
    container = guest.find_container(args.container, args.instance)
    init = guest.processes[container.instance][container.init]  # looked up before the wait: a delete may come meanwhile
    found = await asyncio.to_thread(lambda: cgroups.stats(cgroups.cgroup_paths(guest.settings.paths, container.instance)))
    written = spools.end_position(init)
    return ContainerStatsReply(stats=msgspec.structs.replace(found, stdout_bytes=written.get(1, 0), stderr_bytes=written.get(2, 0)))


async def wait(guest: Guest, args: WaitArgs) -> WaitReply:
    container, processes = guest.find_remains(args.container, args.instance)
    process = guest.find_process(container, processes, args.process, args.process_instance)
    try:
        async with asyncio.timeout(args.timeout_ms / 1000):
            await guest.waiters.ended(process)
    except TimeoutError:
        raise error("wait_timeout", f"{container.name}/{process.id} still runs after {args.timeout_ms} ms") from None
    await guest.journal.durable()  # a slow disk does not make an exit unknown
    assert process.exit is not None
    return WaitReply(exit=process.exit, process_instance=process.instance)


async def replay(guest: Guest, args: ReplayArgs) -> ReplayReply:
    journal = guest.journal
    if args.epoch and args.epoch != journal.epoch:
        raise error(
            "cursor_too_old", f"epoch {args.epoch} is over; now: {journal.epoch}", epoch=journal.epoch, first_seq=journal.store.first_seq()
        )
    first = journal.store.first_seq()
    mark = journal.mark_at(args.after) if args.mark else 0
    if mark and mark != args.mark:
        text = f"event {args.after} is another one than the asker had: the journal was set back"
        raise error("cursor_too_old", text, epoch=journal.epoch, first_seq=first)
    if args.after > journal.last_seq:
        raise error("cursor_too_old", f"the journal ends at {journal.last_seq}, before {args.after}", epoch=journal.epoch, first_seq=first)
    if args.after and args.after + 1 < first:
        raise error("cursor_too_old", f"events after {args.after} are gone; kept: from {first}", epoch=journal.epoch, first_seq=first)
    until_s = time.monotonic() + args.wait_ms / 1000
    upto = args.after
    while True:
        events, upto = _after(guest, upto, args)
        if events or time.monotonic() >= until_s:
            break
        await guest.waiters.event_beyond(upto, until_s - time.monotonic())
    frames = [(event.header, event.payload) for event in events]
    return ReplayReply(epoch=journal.epoch, events=frames, upto=upto, last_seq=journal.durable_seq)


def _after(guest: Guest, seq: int, args: ReplayArgs) -> tuple[list[EventRecord], int]:
    return guest.journal.events_after(seq, args.kinds, args.limit, REPLAY_BYTES_MAX)
