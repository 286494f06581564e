"""kill, stop, pause, resume and update: what changes a container that is there."""

import asyncio
import contextlib
import json
from collections.abc import Iterator

from corral_schemas.commands import SIGKILL, ContainerTarget, KillArgs, KillReply, StopArgs, StopReply, UpdateArgs
from corral_schemas.errors import CorralError, error
from corral_schemas.events import Paused, Resumed, Updated
from corral_schemas.frames import pack
from corral_schemas.limits import EVENT_BYTES_MAX
from corral_schemas.stdio import Done
from corral_worker.bundle_store.disk import storage_error
from corral_worker.commands.execution import Execution
from corral_worker.containers import lifecycle
from corral_worker.containers.guest import Guest, no_shim
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.shims.port import ShimGoneError, ShimLink

NOT_FROZEN, FREEZE_TRIES, FREEZE_PAUSE_S = "unable to freeze", 4, 0.05
"""runc looks so many times whether a v1 freezer has frozen, and then thaws it again: on a busy machine, or while a process in it waits for
the disk, these are too few, and nothing has changed."""


async def linked(guest: Guest, container: ContainerRecord) -> ShimLink:
    """The shim of a container that runs. Raises runtime_failed where it cannot be had."""
    try:
        return await guest.shim(container)
    except (ShimGoneError, OSError) as why:
        raise no_shim(why, f"no shim could be reached for container {container.name}") from why


@contextlib.contextmanager
def json_is_the_callers(what: str) -> Iterator[None]:
    """Where the runtime cannot read JSON that came with the command itself, the request is wrong, not a bundle."""
    try:
        yield
    except CorralError as why:
        if why.code == "bundle_invalid":
            raise error("bad_request", f"{what}: {why.message}", **why.details) from why
        raise


async def kill(guest: Guest, args: KillArgs, execution: Execution) -> KillReply:
    container = guest.find_container(args.container, args.instance)
    process = guest.find_process(container, guest.processes[container.instance], args.process, args.process_instance)
    # `all` also reaches what a stopped init left behind (a shared pid namespace), as the runtime's kill --all does
    if not execution.redo and not (args.all and container.status == "stopped"):
        lifecycle.check("kill", container)
    if process.exit is not None and not process.init:
        raise error("process_not_found", f"process {args.process} has ended already", process=args.process, outcome="already_exited")
    link = await linked(guest, container)
    ok = await execution.step(link, "signal", process=process.instance, signal=args.signal, all=args.all)
    outcome = ok["outcome"]
    if outcome == "delivered":
        return KillReply(outcome="delivered")
    if args.all:  # as with the runtime: nobody is left, which is what there was to be reached
        return KillReply(outcome="already_exited")
    code = "container_not_running" if process.init else "process_not_found"
    raise error(code, f"{container.name}/{process.id}: {outcome.replace('_', ' ')}", process=process.id, outcome=outcome)


async def stop(guest: Guest, args: StopArgs, execution: Execution) -> StopReply:
    container = guest.find_container(args.container, args.instance)
    init = guest.processes[container.instance][container.init]
    if container.status == "creating":
        lifecycle.check("kill", container)
    if init.exit is None:
        grace_s = args.grace_ms / 1000
        ended = asyncio.ensure_future(guest.waiters.exited(init))
        try:
            await _signal_unless_gone(guest, container, init, args.signal, execution)
            done, _ = await asyncio.wait([ended], timeout=grace_s)
            if not done:
                await _signal_unless_gone(guest, container, init, SIGKILL, execution, suffix="/kill")
                await ended
        finally:
            ended.cancel()
    await guest.waiters.exited(init)
    assert init.exit is not None
    return StopReply(exit=init.exit)


async def _signal_unless_gone(
    guest: Guest, container: ContainerRecord, init: ProcessRecord, signal: int, execution: Execution, *, suffix: str = ""
) -> None:
    """A container that ended by itself meanwhile is stopped as well."""
    link = await linked(guest, container)
    await execution.step(link, "signal", suffix=suffix, process=init.instance, signal=signal, all=signal == SIGKILL)


async def pause(guest: Guest, args: ContainerTarget, execution: Execution) -> Done:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        container = guest.find_container(args.container, args.instance)
        if not (execution.redo and container.status == "paused"):
            await _runtime(guest, container, "pause", execution)
            guest.journal.event("paused", Paused(), container)
        return Done()


async def resume(guest: Guest, args: ContainerTarget, execution: Execution) -> Done:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        container = guest.find_container(args.container, args.instance)
        if not (execution.redo and container.status != "paused"):
            await _runtime(guest, container, "resume", execution)
            guest.journal.event("resumed", Resumed(), container)
        return Done()


async def _runtime(guest: Guest, container: ContainerRecord, verb: lifecycle.Verb, execution: Execution) -> None:
    lifecycle.check(verb, container)
    await execution.recorded
    link = await linked(guest, container)
    log_path = guest.settings.paths.container(container.instance) / f"{verb}.log"
    runtime = guest.settings.runtime
    argv = runtime.pause(container.instance, log_path) if verb == "pause" else runtime.resume(container.instance, log_path)
    tries = FREEZE_TRIES if verb == "pause" else 1
    for attempt in range(1, tries + 1):
        try:
            await execution.runtime_step(link, verb, argv, suffix=f"/{attempt}" if attempt > 1 else "", log=str(log_path))
            break
        except CorralError as why:
            if attempt == tries or NOT_FROZEN not in why.message:
                raise
            await asyncio.sleep(FREEZE_PAUSE_S)
    lifecycle.apply(container, "paused" if verb == "pause" else "resumed")
    guest.journal.save(container)
    guest.waiters.tell_changed(guest.processes[container.instance][container.init])


async def update(guest: Guest, args: UpdateArgs, execution: Execution) -> Done:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        container = guest.find_container(args.container, args.instance)
        lifecycle.check("update", container)
        await execution.recorded
        link = await linked(guest, container)
        directory = guest.settings.paths.container(container.instance)
        resources, log_path = directory / "resources.json", directory / "update.log"
        try:
            await asyncio.to_thread(resources.write_text, json.dumps(args.resources))
        except OSError as why:
            raise storage_error(why, f"cannot write the resources of {container.name}") from why
        argv = guest.settings.runtime.update(container.instance, resources, log_path)
        with json_is_the_callers("resources"):
            await execution.runtime_step(link, "update", argv, log=str(log_path))
        event = Updated(resources=args.resources)
        guest.journal.event("updated", event if len(pack(event)) <= EVENT_BYTES_MAX else Updated(), container)
        return Done()
