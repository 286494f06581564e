"""What shims notice → records and events: exits, ends of streams, gaps, out-of-memory kills, blocked processes."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from corral_schemas.errors import CorralError
from corral_schemas.events import ExitEvent, Oom, StdioEnd, StdioGap, StorageFull, StorageOk
from corral_schemas.exits import Exit, StreamEnd
from corral_worker.base.tasks import Tasks
from corral_worker.commands.handlers.delete import auto_delete
from corral_worker.containers import lifecycle
from corral_worker.containers.guest import Guest
from corral_worker.containers.spools import STREAM_NAMES
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.shim import messages
from corral_worker.shim.messages import Notice

log = logging.getLogger(__name__)

AUTO_DELETE_AGAIN_S = 2.0
INIT_HOLD_S = 0.2
"""How long init's exit waits for the exits of execs that died with it, so that init's comes last."""


class Notices:
    """Every notice may come twice (a shim repeats what was not acknowledged): the records tell what is known already."""

    def __init__(self, guest: Guest, tasks: Tasks) -> None:
        self._guest, self._tasks = guest, tasks
        self._init_exits: dict[str, messages.Exit] = {}  # container instance -> its init's exit, held back for the execs'

    def take(self, instance: str, notice: Notice) -> None:
        """Records a notice, and has it acknowledged once that is durable."""
        container = self._guest.containers.get(instance)
        if container is not None:
            self._record(container, notice)
        self._tasks.start(self._acknowledge(instance, notice["n"]))

    async def _acknowledge(self, instance: str, number: int) -> None:
        await self._guest.journal.durable()
        link = self._guest.links.get(instance)
        if link is not None:
            link.acknowledge_notice(number)

    def _record(self, container: ContainerRecord, notice: Notice) -> None:
        if notice["t"] == "oom":
            self._oom(container, notice)
        elif notice["t"] == "storage":
            self._storage(container, notice)
        elif (process := self._guest.processes[container.instance].get(notice["process"])) is None:
            log.debug("notice of %s of a process that never started: %s", container.name, notice)
        elif notice["t"] == "exit":
            self._exit(container, process, notice)
        elif notice["t"] == "stream_end":
            self._stream_end(container, process, notice)
        elif notice["t"] == "gap":
            self._gap(container, process, notice)
        else:
            process.blocked_since_ns = notice["since_ns"]
            self._guest.journal.save(process)

    def _oom(self, container: ContainerRecord, notice: messages.Oom) -> None:
        if notice["count"] > container.oom_kills:
            container.oom_kills = notice["count"]
            self._guest.journal.save(container)
            self._guest.journal.event("oom", Oom(kills=container.oom_kills), container)

    def _storage(self, container: ContainerRecord, notice: messages.Storage) -> None:
        if notice["n"] > container.noticed:
            container.noticed = notice["n"]
            self._guest.journal.save(container)
            path = str(self._guest.settings.paths.state)
            kind = "storage_full" if notice["full"] else "storage_ok"
            self._guest.journal.event(kind, StorageFull(path=path) if notice["full"] else StorageOk(path=path), container)

    def _gap(self, container: ContainerRecord, process: ProcessRecord, notice: messages.Gap) -> None:
        """A shim may have added to a gap between telling it and telling it again: then the addition is news."""
        stream, number, start, end = STREAM_NAMES[notice["stream"]], notice["n"], notice["from"], notice["to"]
        told_number, told_end = process.gaps_told.get(stream, (0, 0))
        if number < told_number or (number == told_number and end <= told_end):
            return
        gap = StdioGap(stream=stream, start=told_end if number == told_number else start, end=end, reason=notice["reason"])
        process.gaps_told = {**process.gaps_told, stream: (number, end)}
        self._guest.journal.save(process)
        self._guest.journal.event("stdio_gap", gap, container, process)

    # -- exits ----------------------------------------------------------------------------------------------------------------

    def _exit(self, container: ContainerRecord, process: ProcessRecord, notice: messages.Exit) -> None:
        if process.exit is not None:
            return
        if process.init and self._execs_running(container, process):
            if container.instance not in self._init_exits:
                self._init_exits[container.instance] = notice
                asyncio.get_running_loop().call_later(INIT_HOLD_S, self._release_init, container)
            return
        self.record_exit(container, process, exit_from_notice(notice))
        if not process.init and container.instance in self._init_exits and not self._execs_running(container, process):
            self._release_init(container)

    def _execs_running(self, container: ContainerRecord, but: ProcessRecord) -> bool:
        processes = self._guest.processes[container.instance].values()
        return any(one is not but and not one.init and one.pid and one.exit is None for one in processes)

    def _release_init(self, container: ContainerRecord) -> None:
        notice = self._init_exits.pop(container.instance, None)
        if notice is not None and container.instance in self._guest.containers:
            init = self._guest.processes[container.instance][container.init]
            if init.exit is None:
                self.record_exit(container, init, exit_from_notice(notice))

    def record_exit(self, container: ContainerRecord, process: ProcessRecord, end: Exit) -> None:
        """The one place where a process's exit enters the journal."""
        process.exit, process.blocked_since_ns = end, None
        process.ends = {**process.ends, **{name: one for name, one in end.streams.items() if one.state == "closed"}}
        if process.init:
            lifecycle.apply(container, "exited")
            self._guest.journal.save(container)
        self._guest.journal.save(process)
        self._guest.journal.event("exit", ExitEvent(exit=end), container, process)
        self._guest.waiters.tell_changed(process)
        self._maybe_auto_delete(container)

    def _stream_end(self, container: ContainerRecord, process: ProcessRecord, notice: messages.StreamEnded) -> None:
        self.record_stream_end(container, process, STREAM_NAMES[notice["stream"]], notice["total"], notice["crc"])

    def record_stream_end(
        self, container: ContainerRecord, process: ProcessRecord, stream: str, total: int, crc: int, *, cut: bool = False
    ) -> None:
        """The one place where the end of a stream apart from its process's exit enters the journal."""
        if stream in process.ends:
            return
        process.ends = {**process.ends, stream: StreamEnd(state="closed", total=total, crc=crc, cut=cut)}
        self._guest.journal.save(process)
        if process.exit is not None:
            self._guest.journal.event("stdio_end", StdioEnd(stream=stream, total=total, crc=crc, cut=cut), container, process)  # type: ignore[arg-type]
            self._guest.waiters.tell_changed(process)
            self._maybe_auto_delete(container)

    # -- auto-delete ----------------------------------------------------------------------------------------------------------

    def _maybe_auto_delete(self, container: ContainerRecord) -> None:
        """After the exits of all its processes and the ends of all their streams."""
        if not container.auto_delete or container.status != "stopped":
            return
        for process in self._guest.processes[container.instance].values():
            if process.exit is None or any(name not in process.ends for name in process.exit.streams):
                return
        self._tasks.start(self._auto_delete(container))

    async def _auto_delete(self, container: ContainerRecord) -> None:
        await self._guest.journal.durable()
        try:
            await auto_delete(self._guest, container)
        except CorralError as why:  # its shim died just now, or the runtime failed
            log.warning("container %s could not be deleted after its end, and will be tried again: %s", container.name, why)
            asyncio.get_running_loop().call_later(AUTO_DELETE_AGAIN_S, self._auto_delete_again, container)

    def _auto_delete_again(self, container: ContainerRecord) -> None:
        if container.instance in self._guest.containers:
            self._maybe_auto_delete(container)

    def resume_auto_deletes(self) -> None:
        """After a restart: what was due and not done."""
        for container in list(self._guest.containers.values()):
            self._maybe_auto_delete(container)


def exit_from_notice(notice: messages.Exit) -> Exit:
    """A shim's exit notice as the contract has it."""
    return _exit({**notice, **notice["exit"]}, notice["streams"])


def exit_at_rest(end: Mapping[str, Any], streams: Mapping[str, Any]) -> Exit:
    """An exit from a shim's state or from an end file: there it is one flat object, and the streams stand beside it."""
    told = {
        number: {"state": "open" if one["open"] else "closed", "total": one["offset"], "offset": one["offset"], "crc": one["crc"]}
        for number, one in streams.items()
    }
    return _exit(end, told)


def _exit(end: Mapping[str, Any], told: Mapping[str, Any]) -> Exit:
    streams: dict[str, StreamEnd] = {
        STREAM_NAMES[int(number)]: StreamEnd(
            state=stream["state"], total=stream["total"] if stream["state"] == "closed" else stream["offset"], crc=stream["crc"]
        )
        for number, stream in told.items()
    }
    return Exit(
        type=end["type"],
        code=end.get("code"),
        signal=end.get("signal"),
        core=bool(end.get("core")),
        reason=str(end.get("reason", "")),
        oom_seen=bool(end.get("oom_seen")),
        started_ns=int(end.get("started_ns", 0)),
        exited_ns=int(end.get("exited_ns", 0)),
        user_us=int(end.get("user_us", 0)),
        system_us=int(end.get("system_us", 0)),
        max_rss_kib=int(end.get("max_rss_kib", 0)),
        streams=streams,
    )
