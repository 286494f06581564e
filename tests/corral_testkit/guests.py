"""One guest's rooms for tests: its journal on a real disk and its live state, without broker, shims or containers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from corral_schemas.commands import CreateArgs
from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import WireError
from corral_schemas.events import EventHeader
from corral_schemas.frames import CommandHeader
from corral_worker.base.paths import GuestPaths
from corral_worker.containers.guest import Guest, Settings
from corral_worker.journal.journal import Journal
from corral_worker.journal.port import Store
from corral_worker.journal.records import ContainerRecord, EventRecord, ProcessRecord, Status
from corral_worker.journal.store import Durability, SqliteStore
from corral_worker.runtime.runc import Runtime
from corral_worker.shims.port import UnixShims

WORKER = "0" * 26


class Room:
    """What the worker's parts stand on. Belongs to the running event loop; `close` when done."""

    def __init__(
        self, directory: Path, *, durability: Durability = "process", on_publish: Callable[[EventRecord], None] | None = None
    ) -> None:
        self.paths = GuestPaths(directory / "state", directory / "run")
        self.paths.make()
        self.settings = Settings(guest="g1", paths=self.paths, runtime=Runtime("runc", self.paths.runtime_root))
        self.published: list[EventRecord] = []
        self.appends = self.commits = 0
        self._on_publish = on_publish
        self.journal = Journal(partial(self._open_store, durability), "g1", WORKER, self._publish)
        self.is_new = not self.journal.epoch
        if self.is_new:
            self.journal.new_epoch("journal made")
        self.guest = Guest(self.settings, WORKER, self.journal, UnixShims(self.paths, "g1"))

    def _open_store(self, durability: Durability, on_durable: Callable[[int], None], on_full: Callable[[bool], None]) -> Store:
        def counted(position: int) -> None:
            self.commits += 1
            on_durable(position)

        return _Counting(self, self.paths.journal, durability, counted, on_full)

    def _publish(self, record: EventRecord) -> None:
        self.published.append(record)
        if self._on_publish is not None:
            self._on_publish(record)

    def container(self, name: str = "c1", status: Status = "running", *, auto_delete: bool = False, **process: Any) -> ContainerRecord:
        """A container with its init, recorded as being in that state; `process`: fields of init."""
        args = CreateArgs(container=name, spec=ContainerSpec(rootfs="/", args=["true"]))
        made = self.guest.add_container(args, self.guest.new_instance(), auto_delete=auto_delete)
        made.status, made.started = status, status not in ("creating", "created")
        init = self.init(made)
        init.pid = 4_000_000
        for field, value in process.items():
            setattr(init, field, value)
        self.journal.save(made, init)
        return made

    def init(self, container: ContainerRecord) -> ProcessRecord:
        return self.guest.processes[container.instance][container.init]

    def kinds(self) -> list[str]:
        """Kinds of the events published so far, without those of the journal's own beginning."""
        return [record.kind for record in self.published if record.kind != "journal_reset"]

    def headers(self) -> list[EventHeader]:
        return [msgspec.msgpack.decode(record.header, type=EventHeader) for record in self.published]

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        return [msgspec.msgpack.decode(record.payload) for record in self.published if record.kind == kind]

    def close(self) -> None:
        self.journal.close()


class _Counting(SqliteStore):
    """The real store; the room counts how often it is handed statements."""

    def __init__(self, room: Room, *args: Any) -> None:
        self._room = room
        super().__init__(*args)

    def append(self, statements: Any) -> int:
        self._room.appends += 1
        return super().append(statements)


@asynccontextmanager
async def open_room(directory: Path, **options: Any) -> AsyncIterator[Room]:
    """A Room, closed at the end."""
    room = Room(directory, **options)
    try:
        yield room
    finally:
        room.close()
        await asyncio.sleep(0)  # what the store called back goes through


class Answer(NamedTuple):
    """A reply as a broker session would have sent it."""

    id: str
    ok: dict[str, Any] | None
    error: WireError | None

    @property
    def code(self) -> str:
        """The error's code; empty for a success."""
        return self.error.code if self.error else ""


class _Body(msgspec.Struct):
    ok: dict[str, Any] | None = None
    error: WireError | None = None


class Answers:
    """Takes replies in place of a broker session; `next` waits for one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Answer] = asyncio.Queue()

    def send(self, route: Any, header: CommandHeader, body: bytes) -> None:
        told = msgspec.msgpack.decode(body, type=_Body)
        self._queue.put_nowait(Answer(header.id, told.ok, told.error))

    async def next(self, timeout_s: float = 10.0) -> Answer:
        return await asyncio.wait_for(self._queue.get(), timeout_s)

    @property
    def none_waits(self) -> bool:
        return self._queue.empty()
