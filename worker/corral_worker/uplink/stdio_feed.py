"""Output published as it is written, while somebody is subscribed to it. It may drop; whoever needs every byte reads by offset."""

import asyncio
import logging
from collections.abc import Callable

from corral_schemas.errors import CorralError
from corral_schemas.events import StdioHeader
from corral_schemas.frames import encode_stdio
from corral_schemas.limits import STDIO_CHUNK_BYTES_MAX
from corral_schemas.topics import stdio_topic
from corral_worker.base.tasks import Tasks
from corral_worker.containers.guest import Guest
from corral_worker.containers.read_backoff import ReadBackoff
from corral_worker.containers.spools import STREAM_NAMES, Position, Spools
from corral_worker.journal.records import ProcessRecord

log = logging.getLogger(__name__)

COALESCE_S = 0.002
"""After a publication: what comes within it goes out as one message."""
GROWTH_WAIT_S = 30.0


class StdioFeed:
    """One task per process whose output is wanted."""

    def __init__(self, guest: Guest, spools: Spools, tasks: Tasks, publish: Callable[[list[bytes]], None]) -> None:
        self._guest, self._spools, self._tasks, self._publish = guest, spools, tasks, publish
        self._prefixes: list[bytes] = []
        self._feeding: dict[str, asyncio.Task[None]] = {}  # process instance -> its task

    def want(self, prefixes: set[bytes]) -> None:
        """The subscriptions there are now. What was written before one came is not published."""
        self._prefixes = sorted(prefixes)
        for instance, task in list(self._feeding.items()):
            process = self._process(instance)
            if process is None or not self._wanted(process):
                task.cancel()
                del self._feeding[instance]
        for processes in self._guest.processes.values():
            for process in processes.values():
                if process.exit is None:
                    self._feed(process, self._spools.end_position(process) if process.pid else {})

    def refresh(self) -> None:
        """After a process started: where it is wanted it is published from its first byte."""
        if self._prefixes:
            for processes in self._guest.processes.values():
                for process in processes.values():
                    if process.exit is None and process.instance not in self._feeding:
                        self._feed(process, {})

    def _process(self, instance: str) -> ProcessRecord | None:
        return next((found for one in self._guest.processes.values() if (found := one.get(instance))), None)

    def _topic(self, process: ProcessRecord, stream: str) -> bytes:
        return stdio_topic(self._guest.settings.guest, process.container_name, process.id, stream)

    def _wanted(self, process: ProcessRecord) -> bool:
        return any(self._topic(process, stream).startswith(prefix) for prefix in self._prefixes for stream in STREAM_NAMES.values())

    def _feed(self, process: ProcessRecord, position: Position) -> None:
        if process.instance not in self._feeding and self._wanted(process):
            numbers = [1] if process.tty else list(STREAM_NAMES)  # a terminal has no stderr to wait for
            task = self._tasks.start(self._follow(process, {number: position.get(number, 0) for number in numbers}))
            self._feeding[process.instance] = task
            task.add_done_callback(
                lambda done: self._feeding.pop(process.instance, None) if self._feeding.get(process.instance) is done else None
            )

    async def _follow(self, process: ProcessRecord, position: Position) -> None:
        now_s, read_backoff = asyncio.get_running_loop().time, ReadBackoff()
        while True:
            looked_s = now_s()
            try:
                read = self._spools.read(process, position, STDIO_CHUNK_BYTES_MAX)
            except CorralError as why:
                log.info("stdio of %s/%s is no longer published: %s", process.container_name, process.id, why)
                return
            for chunk in read.chunks:
                header = StdioHeader(
                    guest=self._guest.settings.guest,
                    worker=self._guest.worker,
                    container=process.container_name,
                    instance=process.container,
                    process=process.id,
                    process_instance=process.instance,
                    stream=chunk.stream,
                    offset=chunk.offset,
                    crc=chunk.crc,
                    time_ns=chunk.time_ns,
                )
                self._publish(encode_stdio(self._topic(process, chunk.stream), header, bytes(chunk.data)))
            moved = read.next != position
            position = read.next
            if moved:
                read_backoff = ReadBackoff()
                await asyncio.sleep(COALESCE_S)
            elif process.exit is not None and all(name in process.ends for name in process.exit.streams):
                return
            else:
                await self._growth(process, position)
                await asyncio.sleep(max(COALESCE_S, read_backoff.pause_s(now_s() - looked_s)))

    async def _growth(self, process: ProcessRecord, position: Position) -> None:
        link = self._guest.links.get(process.container)
        waiters: list[asyncio.Future[None]] = [asyncio.ensure_future(self._guest.waiters.changed(process))]
        streams = {str(number): offset for number, offset in position.items() if STREAM_NAMES[number] not in process.ends}
        if link is not None and streams:
            waiters.append(link.growth(process.instance, streams, exited=process.exit is not None))
        try:
            await asyncio.wait(waiters, timeout=GROWTH_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
