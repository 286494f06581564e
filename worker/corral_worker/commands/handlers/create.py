"""create, run, start and exec: what brings processes to life."""

import asyncio
import json
import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from corral_schemas.commands import ContainerTarget, CreateArgs, CreateReply, ExecArgs, ExecReply, RunArgs, StartReply
from corral_schemas.errors import CorralError, error
from corral_schemas.events import Created, ExecStarted, Started
from corral_schemas.names import check_container_id, check_process_id
from corral_schemas.stdio import StdioOptions
from corral_worker.bundle_store.disk import storage_error
from corral_worker.bundle_store.store import Image
from corral_worker.commands.execution import Execution, settle
from corral_worker.commands.handlers.change import json_is_the_callers
from corral_worker.containers import lifecycle
from corral_worker.containers.container_root import root_of
from corral_worker.containers.environments import EXEC_FILE, forget_exec
from corral_worker.containers.guest import Guest, no_shim, response_error
from corral_worker.containers.rebuild import note_container, note_process
from corral_worker.containers.remains import remove_remains
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.runtime.bundle_policy import check_process
from corral_worker.runtime.bundles import Bundle, exec_process, make_bundle
from corral_worker.runtime.images import may_need_layer
from corral_worker.runtime.oci_names import check_spelling
from corral_worker.runtime.overlay import argv_in
from corral_worker.runtime.runtime_errors import error_for
from corral_worker.runtime.users import resolve_user
from corral_worker.shim.cgroup.cgroup import make_cgroup
from corral_worker.shims.port import Body, ShimGoneError, ShimLink

log = logging.getLogger(__name__)

EVENT_ARGS_CHARS_MAX = 1_000


async def create(guest: Guest, args: CreateArgs, execution: Execution) -> CreateReply:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        container, pid = await _create(guest, args, execution, auto_delete=False, start=False)
        return _create_reply(guest, container, pid)


async def run(guest: Guest, args: RunArgs, execution: Execution) -> CreateReply:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        container, pid = await _create(guest, args, execution, auto_delete=args.auto_delete, start=True)
        return _create_reply(guest, container, pid)


async def start(guest: Guest, args: ContainerTarget, execution: Execution) -> StartReply:
    async with guest.turns.ordered(args.container, execution.deadline_s):
        container = guest.find_container(args.container, args.instance)
        if not execution.redo:
            lifecycle.check("start", container)
        process = await _start(guest, container, execution)
        return StartReply(pid=process.pid, started_ns=process.started_ns)


def _create_reply(guest: Guest, container: ContainerRecord, pid: int) -> CreateReply:
    init = guest.processes.get(container.instance, {}).get(container.init)
    return CreateReply(
        container=container.name,
        instance=container.instance,
        process_instance=container.init,
        pid=pid,
        place=guest.journal.place(),
        exit=None if init is None else init.exit,
    )


async def _create(guest: Guest, args: CreateArgs, execution: Execution, *, auto_delete: bool, start: bool) -> tuple[ContainerRecord, int]:
    check_container_id(args.container)
    container = guest.containers.get(execution.record.instance)
    if container is not None and container.status != "creating":  # going on after a restart, past this point
        return container, guest.processes[container.instance][container.init].pid
    if container is None:
        execution.check_not_cancelled()
        if execution.record.instance:  # it was made and removed, and only its result is missing
            raise error("outcome_unknown", "the worker ended while what was left of it was removed; it is not carried out a second time")
        if (taken := guest.container_named(args.container)) is not None:
            raise error("container_already_exists", f"container {args.container!r} exists ({taken.status})", container=args.container)
        container = guest.add_container(args, guest.new_instance(), auto_delete=auto_delete)
        execution.remember(container)
    try:
        return container, await _create_in_shim(guest, container, args, execution, start=start)
    except Exception as failure:  # not where this worker is being ended: the next one goes on with it
        if isinstance(failure, CorralError):
            settle(guest, execution.record, failure)  # on disk no later than that the container is forgotten
        await _discard(guest, container, execution)
        raise


async def _create_in_shim(guest: Guest, container: ContainerRecord, args: CreateArgs, execution: Execution, *, start: bool) -> int:
    paths, runtime = guest.settings.paths, guest.settings.runtime
    process = guest.processes[container.instance][container.init]
    linking = asyncio.ensure_future(guest.shim(container))  # the fork goes on while the bundle is made
    try:
        with guest.bundle_store.pinned(args.spec.image) if args.spec and args.spec.image else nullcontext() as image:
            joined = _joined_namespace(guest, args)
            bundle = await asyncio.to_thread(_lay_out, guest, container, process, args, image, joined)
    except Exception:
        await asyncio.wait([linking])  # then the clean-up finds the shim and ends it
        linking.exception()  # that there is none is no second failure
        raise
    link = await _linked(linking)
    log_path = paths.process(container.instance, process.instance) / "runc.log"
    pid_file = paths.pid_file(container.instance)
    console = paths.console_socket(process.instance) if args.stdio.tty else None
    directory = paths.bundle(container.instance)
    # run is one call of the runtime: two would cost a quarter more
    command = runtime.run if start else runtime.create
    if start:
        await execution.recorded
    async with guest.holding(process):
        ok = await execution.runtime_step(
            link,
            "run" if start else "create",
            argv_in(directory, command(container.instance, directory, pid_file, log_path, console), log_path),
            process=_process_body(process, args.stdio, pid_file),
            log=str(log_path),
            cleanup_argv=runtime.delete(container.instance, log_path.with_name("cleanup.log"), force=True),
            kill_rest_on_init_exit=bundle.shares_pid_namespace,
        )
        _record_created(guest, container, process, int(ok["pid"]))
        if start:
            _record_started(guest, container, process, ok)
    return process.pid


async def _linked(linking: "asyncio.Future[ShimLink]") -> ShimLink:
    try:
        return await linking
    except (ShimGoneError, OSError) as why:
        raise no_shim(why, "no shim could be started") from why


def _joined_namespace(guest: Guest, args: CreateArgs) -> str:
    """The process namespace of the container that a spec names; empty where it names none. Raises container_not_found, _not_running."""
    kind, _, name = args.spec.pid.partition(":") if args.spec is not None else ("", "", "")
    if kind != "container":
        return ""
    other = guest.find_container(name)
    init = guest.processes[other.instance][other.init]
    if other.status not in ("created", "running", "paused") or not init.pid or init.exit is not None:
        raise error("container_not_running", f"container {name} does not run: its processes cannot be shared", container=name)
    return f"/proc/{init.pid}/ns/pid"


def _lay_out(
    guest: Guest, container: ContainerRecord, process: ProcessRecord, args: CreateArgs, image: Image | None, pid_namespace: str
) -> Bundle:
    """Directories and bundle on disk (in a thread: a disk may stall)."""
    paths = guest.settings.paths
    try:
        bundle = make_bundle(
            args,
            paths.bundle(container.instance),
            guest.settings.cgroup(container.instance),
            guest.settings.allowed_roots,
            image=image,
            overlays=args.spec is not None and may_need_layer(args.spec) and guest.overlays,
            systemd_cgroups=guest.settings.runtime.has_systemd_cgroups,
            privileged=guest.settings.allow_privileged,
            pid_namespace=pid_namespace,
        )
        if bundle.cgroup.startswith("/") and bundle.cgroup != guest.settings.cgroup(container.instance):
            make_cgroup(bundle.cgroup)
        directory = paths.process(container.instance, process.instance)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        container.bundle_path, container.rootfs_path, container.oci_version = bundle.bundle_path, bundle.rootfs_path, bundle.oci_version
        process.args = bundle.args
        note_container(paths.container(container.instance), container)
        note_process(directory, process)
    except OSError as why:
        raise storage_error(why, f"cannot prepare container {args.container}") from why
    return bundle


def _process_body(process: ProcessRecord, stdio: StdioOptions, pid_file: Path) -> Body:
    return {
        "instance": process.instance,
        "id": process.id,
        "tty": stdio.tty,
        "stdin": stdio.stdin,
        "rows": stdio.rows,
        "columns": stdio.columns,
        "cap_bytes": stdio.cap_bytes,
        "policy": stdio.policy,
        "lease_ms": stdio.lease_ms,
        "pid_file": str(pid_file),
    }


def _record_created(guest: Guest, container: ContainerRecord, process: ProcessRecord, pid: int) -> None:
    container.created_ns, process.pid = time.time_ns(), pid
    lifecycle.apply(container, "created")
    guest.journal.save(container, process)
    guest.journal.event("created", Created(pid=pid, bundle=container.bundle_path[:EVENT_ARGS_CHARS_MAX]), container, process)


async def _discard(guest: Guest, container: ContainerRecord, execution: Execution) -> None:
    """After a failed create nothing of the container is left: shim, runtime state, directory, record."""
    link = guest.links.get(container.instance)
    guest.forget_container(container)
    if link is not None and link.alive:
        runtime, log_path = guest.settings.runtime, guest.settings.paths.container(container.instance) / "discard.log"
        argv = runtime.delete(container.instance, log_path, force=True)
        try:
            response = await link.request("discard", "delete", argv=argv, log=str(log_path), timeout_ms=10_000)
            if (failure := response_error(response, error_for)) is not None:
                log.error("what a failed create left of %s cannot be removed yet: %s", container.instance, failure)
                return  # the janitor comes by again
        except ShimGoneError:
            log.warning("shim of %s was gone before the clean-up of its failed create", container.instance)
            await guest.shims.ended(container.instance)
        link.acknowledge("discard", "delete")
    elif link is not None or execution.begun:
        await guest.shims.ended(container.instance)
    await remove_remains(guest, container.instance)


async def _start(guest: Guest, container: ContainerRecord, execution: Execution) -> ProcessRecord:
    process = guest.processes[container.instance][container.init]
    if container.started:  # going on after a restart, past this point
        return process
    link = await _linked(asyncio.ensure_future(guest.shim(container)))
    await execution.recorded
    log_path = guest.settings.paths.process(container.instance, process.instance) / "start.log"
    async with guest.holding(process):
        ok = await execution.runtime_step(link, "start", guest.settings.runtime.start(container.instance, log_path), log=str(log_path))
        _record_started(guest, container, process, ok)
    return process


def _record_started(guest: Guest, container: ContainerRecord, process: ProcessRecord, ok: Body) -> None:
    process.started_ns = int(ok.get("started_ns", 0)) or time.time_ns()
    if not lifecycle.apply(container, "started"):
        log.warning("container %s: started while %s", container.name, container.status)
    guest.journal.save(container, process)
    guest.journal.event("started", Started(pid=process.pid), container, process)


async def exec_(guest: Guest, args: ExecArgs, execution: Execution) -> ExecReply:
    check_process_id(args.process)
    record = execution.record
    while True:
        async with guest.turns.ordered(args.container, execution.deadline_s):
            container = guest.find_container(args.container, args.instance or ("" if record.process_instance else record.instance))
            if not args.ignore_paused or container.status != "paused" or record.process_instance:
                return await _exec(guest, container, args, execution)
            if not record.instance:
                execution.remember(container)  # also after a restart, it is this one that it goes to
        await _until_resumed(guest, container, execution.deadline_s)


async def _until_resumed(guest: Guest, container: ContainerRecord, deadline_s: float) -> None:
    """Returns once it is paused no more, or ended. Raises deadline_exceeded."""
    init = guest.processes[container.instance][container.init]
    try:
        async with asyncio.timeout_at(deadline_s):
            while container.status == "paused":
                await guest.waiters.changed(init)
    except TimeoutError:
        raise error("deadline_exceeded", f"container {container.name} was paused until the deadline; the process was not begun") from None


async def _exec(guest: Guest, container: ContainerRecord, args: ExecArgs, execution: Execution) -> ExecReply:
    processes = guest.processes[container.instance]
    process = processes.get(execution.record.process_instance)
    if process is None:
        if execution.record.process_instance:  # it failed and was removed, and only its result is missing
            raise error("outcome_unknown", "the worker ended while its result was being recorded; it is not carried out a second time")
        execution.check_not_cancelled()
        lifecycle.check("exec", container)
        if any(one.id == args.process and not one.freed for one in processes.values()):
            raise error("process_already_exists", f"process {args.process!r} exists in {args.container}", process=args.process)
        process = guest.add_process(container, guest.new_instance(), args.process, args.stdio)
        execution.remember(container, process.instance)
    if not process.pid:
        directory = guest.settings.paths.process(container.instance, process.instance)
        try:
            await _exec_in_shim(guest, container, process, args, execution)
        except Exception:  # not where this worker is being ended: the next one goes on with it
            guest.forget_process(process)
            await asyncio.to_thread(forget_exec, directory)
            raise
        await asyncio.to_thread(forget_exec, directory)
    return ExecReply(
        container=container.name,
        instance=container.instance,
        process=process.id,
        process_instance=process.instance,
        pid=process.pid,
        started_ns=process.started_ns,
        place=guest.journal.place(),
        exit=process.exit,
    )


async def _exec_in_shim(guest: Guest, container: ContainerRecord, process: ProcessRecord, args: ExecArgs, execution: Execution) -> None:
    if container.buried:  # before this worker knew
        raise error("outcome_unknown", f"the shim of container {container.name} died, and the container with it, while this was under way")
    paths = guest.settings.paths
    directory = paths.process(container.instance, process.instance)
    link = await _linked(asyncio.ensure_future(guest.shim(container)))
    await asyncio.to_thread(_lay_out_exec, guest, container, process, args)
    await execution.recorded
    log_path, pid_file = directory / "runc.log", paths.pid_file(container.instance)
    console = paths.console_socket(process.instance) if args.stdio.tty else None
    argv = guest.settings.runtime.exec(container.instance, directory / EXEC_FILE, pid_file, log_path, console)
    async with guest.holding(process):
        body = _process_body(process, args.stdio, pid_file)
        with json_is_the_callers("the process"):
            ok = await execution.runtime_step(link, "exec", argv, process=body, log=str(log_path))
        process.pid, process.started_ns = int(ok["pid"]), int(ok.get("started_ns", 0)) or time.time_ns()
        guest.journal.save(process)
        guest.journal.event("exec_started", ExecStarted(pid=process.pid, args=_short(args.spec.args)), container, process)


def _user_of(guest: Guest, container: ContainerRecord, text: str) -> dict[str, Any] | None:
    """A user by the files that the container has now: one that was added while it runs is known too."""
    if not text:
        return None
    with root_of(guest, container) as root:
        return resolve_user(text, root)


def _lay_out_exec(guest: Guest, container: ContainerRecord, process: ProcessRecord, args: ExecArgs) -> None:
    directory = guest.settings.paths.process(container.instance, process.instance)
    bundle = guest.settings.paths.bundle(container.instance)
    stdio, settings = args.stdio, guest.settings
    with json_is_the_callers("the process"):
        check_spelling(args.spec.oci, ("process",))
        if settings.allowed_roots and not settings.allow_privileged:
            check_process(args.spec.oci)
    try:
        user = _user_of(guest, container, args.spec.user)
        oci: dict[str, Any] = exec_process(bundle, args.spec, user, tty=stdio.tty, rows=stdio.rows, columns=stdio.columns)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / EXEC_FILE).write_text(json.dumps(oci))
        process.args = args.spec.args
        note_process(directory, process)
    except OSError as why:
        raise storage_error(why, f"cannot prepare process {args.process}") from why


def _short(args: list[str]) -> list[str]:
    """As many arguments as fit an event."""
    kept: list[str] = []
    size = 0
    for arg in args:
        size += len(arg)
        if size > EVENT_ARGS_CHARS_MAX:
            return [*kept, "…"]
        kept.append(arg)
    return kept
