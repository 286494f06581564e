"""The workload: clients that run, exec, wait, read and delete without pause, repeating each command under its id until it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from chaos.witness import Job, Witness
from corral import AsyncClient, Chunk, ContainerSpec, CorralError, Event, EventGap, Exit, Mount, Resync
from corral.container import Container
from corral.process import Process
from corral.words import new_request_id
from corral_schemas.commands import DeleteArgs
from corral_testkit.system import CorralSystem

T = TypeVar("T")
PATIENCE_S = 90.0
"""No command may take longer, whatever happens."""
EXECS_PER_CONTAINER = 4


@dataclass
class Seen:
    """What the clients saw of one process."""

    job: Job
    guest: str
    instance: str = ""
    """Container instance."""
    process_instance: str = ""
    exit: Exit | None = None
    output: bytes = b""
    crc: int = 0
    gap: bool = False
    failed: str = ""
    """Error code, where it was refused or its outcome is unknown."""


@dataclass
class Story:
    """All that was seen, for the verdict."""

    processes: list[Seen] = field(default_factory=list)
    exits_by_event: dict[str, list[str]] = field(default_factory=dict)
    """Process instance → the ends that exit events told."""
    gaps: int = 0
    resyncs: int = 0
    events: int = 0
    operations: Counter[str] = field(default_factory=Counter)


class Workload:
    """Several clients at once, until told to stop."""

    def __init__(self, system: CorralSystem, seed: int, story: Story, witness: Witness) -> None:
        self._system, self._story, self._witness = system, story, witness
        self._seed = seed
        self.stop = asyncio.Event()
        """No client begins anything new."""
        self.done = asyncio.Event()
        """All clients have ended."""

    async def client(self, number: int) -> None:
        """One client: a container with its init and a few execs, then another. Now and then it loses its connection."""
        dice = random.Random(f"{self._seed}/{number}")
        turn = 0
        while not self.stop.is_set():
            async with self._system.async_client(timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S) as client:
                for _ in range(dice.randint(1, 4)):  # then a new connection
                    if not self.stop.is_set():
                        await self._container(client, dice, f"{number}.{turn}")
                        turn += 1

    async def _container(self, client: AsyncClient, dice: random.Random, token: str) -> None:
        guest = dice.choice(self._system.names)
        init = self._seen(self._job(dice, f"c{token}", waits=True), guest)
        mount = Mount(source=str(self._witness.directory), destination="/witness")
        spec = ContainerSpec(rootfs=str(self._system.rootfs), args=["sh", "-c", init.job.script()], mounts=[mount])
        request_id = new_request_id()
        name = f"c{token}"
        container = await self._answered(
            init, "run", lambda: client.guest(guest).run(name, spec=spec, request_id=request_id, timeout_s=PATIENCE_S)
        )
        if container is None:
            return
        init.instance = container.instance
        execs = [self._exec(container, dice, guest, f"{token}.{number}") for number in range(dice.randint(0, EXECS_PER_CONTAINER))]
        following = asyncio.ensure_future(self._follow(container.init, init))
        await asyncio.gather(*execs)
        self._witness.release(init.job)
        await following
        deletion = new_request_id()
        await self._answered(None, "delete", lambda: self._delete(client, container, deletion))

    async def _exec(self, container: Container, dice: random.Random, guest: str, token: str) -> None:
        seen = self._seen(self._job(dice, f"e{token}"), guest)
        request_id, process_id = new_request_id(), f"e{token}"
        seen.instance = container.instance
        process = await self._answered(
            seen,
            "exec",
            lambda: container.exec(["sh", "-c", seen.job.script()], process=process_id, request_id=request_id, timeout_s=PATIENCE_S),
        )
        if process is not None:
            await self._follow(process, seen)

    async def _delete(self, client: AsyncClient, container: Container, request_id: str) -> None:
        args = DeleteArgs(container=container.name, instance=container.instance, force=True)
        await client.call(container.guest, "delete", args, request_id=request_id, timeout_s=PATIENCE_S, retry_unreachable=True)

    def _job(self, dice: random.Random, token: str, *, waits: bool = False) -> Job:
        lines, sleep_s = dice.choice([0, 1, 20, 200, 2000]), dice.choice([0, 0, 0.1, 0.5])
        return Job(token=f"t{self._seed}.{token}", lines=lines, sleep_s=sleep_s, code=dice.randint(0, 100), waits=waits)

    def _seen(self, job: Job, guest: str) -> Seen:
        seen = Seen(job, guest)
        self._story.processes.append(seen)
        return seen

    async def _answered(self, seen: Seen | None, what: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer to a command, asked again under its own request id while the guest is out of reach; None for a refusal."""
        self._story.operations[what] += 1
        async with asyncio.timeout(PATIENCE_S * 2):
            while True:
                try:
                    return await ask()
                except CorralError as failure:
                    if failure.code in ("guest_unreachable", "guest_busy"):
                        await asyncio.sleep(0.05)
                        continue
                    if seen is not None:
                        seen.failed = failure.code
                    self._story.operations[f"{what}: {failure.code}"] += 1
                    return None

    async def _follow(self, process: Process, seen: Seen) -> None:
        """Every byte, then the exit. The same question again after each loss of the way there."""
        seen.process_instance = process.instance
        pieces: list[bytes] = []
        offset = 0
        async with asyncio.timeout(PATIENCE_S * 2):
            while True:
                output = process.output(stdout=offset, stderr=None)
                try:
                    async for piece in output:
                        if isinstance(piece, Chunk):
                            pieces.append(bytes(piece.data))
                            offset = piece.offset + len(piece.data)
                        else:
                            seen.gap, offset = True, piece.end
                    seen.exit = output.exit or await process.wait()
                    break
                except CorralError as failure:
                    if failure.code not in ("guest_unreachable", "guest_busy", "deadline_exceeded"):
                        seen.failed = failure.code
                        return
                    await asyncio.sleep(0.05)
                finally:
                    await output.aclose()
        seen.output = b"".join(pieces)
        self._story.operations["followed"] += 1

    async def consumer(self, live: asyncio.Event) -> None:
        """Reads all events by cursor, over broken connections, and notes every exit it is told."""
        cursor: str | None = None
        while True:
            with contextlib.suppress(CorralError):
                async with (
                    self._system.async_client(timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S) as client,
                    client.events(after=cursor) as stream,
                ):
                    live.set()
                    async for item in stream:
                        self._note(item)
                        cursor = stream.cursor
                        if self._over():
                            return

    def _note(self, item: Event | EventGap | Resync) -> None:
        self._story.events += 1
        if isinstance(item, EventGap):
            self._story.gaps += 1
        elif isinstance(item, Resync):
            self._story.resyncs += 1
        elif item.kind == "exit":
            end = item.data["exit"]
            told = f"{end['type']} {end.get('code', end.get('signal', ''))}"
            self._story.exits_by_event.setdefault(item.header.process_instance, []).append(told)

    def _over(self) -> bool:
        """All clients are done and the consumer has heard of every exit that they saw."""
        if not self.done.is_set():
            return False
        expected = {seen.process_instance for seen in self._story.processes if seen.exit is not None}
        return expected <= set(self._story.exits_by_event)
