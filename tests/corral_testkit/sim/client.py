"""A client process: the real library, doing what the scenario says and noting down everything it is told."""

from __future__ import annotations

import asyncio
from typing import Any

from corral.async_client import AsyncClient
from corral.container import Container
from corral.core.items import Event, EventGap, Resync
from corral.core.stitching import Piece
from corral.fleet import list_fleet
from corral_schemas.base import Message
from corral_schemas.commands import CreateReply, ExecReply, StopReply
from corral_schemas.cursor import Cursor, Place, cursor_from_text
from corral_schemas.errors import CorralError
from corral_schemas.events import ExitEvent
from corral_schemas.frames import decode_stdio_header
from corral_schemas.queries import ListReply, StateReply, WaitArgs, WaitReply
from corral_schemas.stdio import Gap
from corral_testkit.sim.broker import PORTS
from corral_testkit.sim.history import Asked, Followed, History, OutputSeen, RawSeen, StreamSeen
from corral_testkit.sim.network import Network
from corral_testkit.sim.process import Host, Process
from corral_testkit.sim.readers import follow
from corral_testkit.sim.scenario import Step
from corral_testkit.sim.sockets import SimLink, SimWire
from corral_testkit.sim.steps import args_of
from corral_testkit.sim.transfers import OPS, Transfers
from corral_testkit.sim.witness import generated

WAIT_POLL_MS = 7_000
AGAIN_S = 0.4
ITEMS_OF_A_SHORT_STREAM = 4
RAW_ON_S, RAW_OFF_S = 9.0, 1.5
"""How long a raw subscriber listens, and how long it does not."""
CONTENT_STATES = {"created": "created", "started": "running", "paused": "paused"}


class SimClient:
    """One client; it can be killed and goes on where it was, as a program with a little file of its own would."""

    def __init__(
        self,
        network: Network,
        number: int,
        brokers: list[str],
        guests: list[str],
        steps: list[Step],
        rootfs: str,
        transfers: Transfers,
        history: History,
        zero_s: float,
    ) -> None:
        self.network, self.name, self.history = network, f"client{number}", history
        self.host = Host(self.name)
        self._number = number
        self._brokers, self._guests, self._steps, self._rootfs = brokers, guests, steps, rootfs
        self._zero_s = zero_s
        self._transfers = transfers
        self._done: set[int] = set()
        self._cursor: str | None = None  # what it has stored of its events
        self._instances: dict[tuple[int, str, str], tuple[str, str]] = {}  # (guest, container, process) -> instances
        self._open: list[Asked] = []
        self._lives = 0
        self.process: Process | None = None

    # -- life ------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.process is None or not self.process.alive:
            self._lives += 1
            self.process = Process(self.network.loop, self.host, self.name)
            self.process.spawn(self._run(self.process))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
        self._open.clear()

    def disturb(self) -> None:
        """It stands still for a while: its deadlines pass unseen."""
        for asked in self._open:
            asked.disturbed = True
        for followed in self.history.followed:
            followed.disturbed = followed.disturbed or followed.client == self.name

    @property
    def _now_s(self) -> float:
        return self.network.loop.time()

    async def _connect(self, process: Process) -> AsyncClient:
        while True:
            client = AsyncClient(self._brokers, connect_timeout_s=20.0, make_wire=lambda: SimWire(self.network, process))
            try:
                return await client.__aenter__()
            except CorralError:
                await asyncio.sleep(AGAIN_S)

    async def _run(self, process: Process) -> None:
        client = await self._connect(process)
        also = self._mirror if self._number % 2 else self._follow_exits  # every stream is told of every heartbeat: two are enough
        tasks = [asyncio.ensure_future(self._follow_all(client)), asyncio.ensure_future(also(client))]
        if not self._number:
            tasks.append(asyncio.ensure_future(self._listen_raw(process)))
        tasks += [asyncio.ensure_future(self._do(client, step)) for step in self._steps if step.number not in self._done]
        await asyncio.gather(*tasks)

    # -- steps -----------------------------------------------------------------------------------------------------------------

    async def _do(self, client: AsyncClient, step: Step) -> None:
        await asyncio.sleep(max(0.0, self._zero_s + step.at_s - self._now_s))
        if step.op == "wait":
            await self._wait(client, step)
        elif step.op == "output":
            await self._output(client, step)
        elif step.op == "follow":
            await self._read_to_the_end(client, step)
        elif step.op == "stdin":
            await self._stdin(client, step)
        elif step.op in OPS:
            await self._transfers.do(client, step)
        else:
            await self._command(client, step, args_of(step, self._rootfs), step.timeout_s)
        self._done.add(step.number)

    async def _command(self, client: AsyncClient, step: Step, args: Message, timeout_s: float, request_id: str | None = None) -> Any:
        """One command, noted down."""
        asked = Asked(step, self.name, self._now_s, self._now_s + timeout_s)
        self.history.asked.append(asked)
        self._open.append(asked)
        guest = "" if step.op == "guests" else self._guests[step.guest]
        mutating = step.op not in ("state", "list", "ps", "stats", "info", "guests", "wait", "result", "cancel")
        try:
            asked.outcome = await client.call(
                guest, step.op, args, timeout_s=timeout_s, request_id=step.request_id if mutating else None, retry_unreachable=step.patient
            )
        except CorralError as failure:
            asked.outcome = failure
        asked.done_s = self._now_s
        self._open.remove(asked)
        self._note(step, asked.outcome)
        return asked.outcome

    def _note(self, step: Step, outcome: Any) -> None:
        match outcome:
            case CreateReply():
                self._instances[step.guest, step.container, "init"] = (outcome.instance, outcome.process_instance)
            case ExecReply():
                self._instances[step.guest, step.container, step.process] = (outcome.instance, outcome.process_instance)
            case StateReply():
                self._note_processes(outcome.state.processes, "state", outcome.place)
            case ListReply():
                for state in outcome.containers:
                    self._note_processes(state.processes, "list", outcome.place)
            case StopReply():
                pass

    def _note_processes(self, processes: Any, where: str, place: Place) -> None:
        for info in processes:
            self.history.exit_seen(info.instance, f"{where} by {self.name}", self._now_s, info.exit, place.epoch)

    async def _wait(self, client: AsyncClient, step: Step) -> None:
        """As the library does it: asked again until it has ended, here with an end."""
        until_s = self._now_s + 40
        while self._now_s < until_s:
            args = WaitArgs(container=step.container, process=step.process, timeout_ms=WAIT_POLL_MS)
            outcome = await self._command(client, step, args, WAIT_POLL_MS / 1000 + 5)
            if isinstance(outcome, WaitReply):
                self.history.exit_seen(outcome.process_instance, f"wait by {self.name}", self._now_s, outcome.exit)
                return
            if outcome.code in ("container_not_found", "process_not_found"):
                return
            await asyncio.sleep(AGAIN_S)

    def _process(self, client: AsyncClient, step: Step) -> Any:
        known = self._instances.get((step.guest, step.container, step.process))
        if known is None:
            return None
        container = Container(client._connection, self._guests[step.guest], step.container, known[0])
        return container.process(step.process, known[1])

    async def _known(self, client: AsyncClient, step: Step) -> Any:
        for _ in range(10):
            process = self._process(client, step)
            if process is not None:
                return process
            await asyncio.sleep(AGAIN_S)
        return None

    async def _output(self, client: AsyncClient, step: Step) -> None:
        process = await self._known(client, step)
        if process is not None:
            seen = OutputSeen(self._guests[step.guest], step.container, process.instance, step.token, self.name)
            self.history.outputs.append(seen)
            await read_output(process, seen, self.history, lambda: self._now_s)

    async def _read_to_the_end(self, client: AsyncClient, step: Step) -> None:
        process = await self._known(client, step)
        if process is None:
            return
        guest = self._guests[step.guest]
        if step.details["by_name"]:
            process = client.guest(guest).container(step.container).init
        followed = Followed(guest, step.container, step.token, self.name, step.details["how"])
        seen = OutputSeen(guest, step.container, "", step.token, self.name)
        self.history.followed.append(followed)
        self.history.outputs.append(seen)
        await follow(process, followed, seen, lambda: self._now_s)
        self.history.exit_seen(process.instance, f"{followed.how} by {self.name}", self._now_s, followed.exit)

    async def _stdin(self, client: AsyncClient, step: Step) -> None:
        process = await self._known(client, step)
        if process is None:
            return
        seed = sum(map(ord, step.token))
        try:
            await process.stdin.write(generated(seed, 0, step.details["bytes"]))
            await process.stdin.close()
        except CorralError:
            return

    async def _listen_raw(self, process: Process) -> None:
        """Output of the first guest as it is published, without the library: it may drop, but says where its bytes belong."""

        def take(frames: list[bytes]) -> None:
            header = decode_stdio_header(frames[1])
            self.history.raw.append(RawSeen(self.name, header.process_instance, header.stream, header.offset, frames[2]))

        address = f"tcp://{self.network.host_of(self._brokers[0])}:{PORTS['stdio_out']}"
        link = SimLink(self.network, process, address, take, lambda: None, lambda: None)
        prefix = f"stdio/{self._guests[0]}/".encode()
        while True:
            link.subscribe(prefix)
            await asyncio.sleep(RAW_ON_S)
            link.unsubscribe(prefix)
            await asyncio.sleep(RAW_OFF_S)

    # -- events ----------------------------------------------------------------------------------------------------------------

    async def _follow_all(self, client: AsyncClient) -> None:
        """Everything, across its own restarts by the cursor it stores after each item."""
        await self._follow(client, None, None, keep=True)

    async def _follow_exits(self, client: AsyncClient) -> None:
        """One kind of one guest: losses show by prev alone."""
        await self._follow(client, frozenset({"exit"}), frozenset({self._guests[0]}), keep=False)

    async def _follow(self, client: AsyncClient, kinds: frozenset[str] | None, guests: frozenset[str] | None, *, keep: bool) -> None:
        while True:
            seen = StreamSeen(f"{self.name} life {self._lives} {sorted(kinds) if kinds else 'all'}", kinds, guests, client=self.name)
            after = cursor_from_text(self._cursor) if keep and self._cursor is not None else None
            if after is not None:
                seen.opened_after = {guest: (place.epoch, place.seq) for guest, place in after.places.items()}
            were_up = self.history.up() if after is None else []
            try:
                async with client.events(kinds=kinds, guests=guests, after=after) as stream:
                    self.history.streams.append(seen)
                    seen.stood_at = self.history.places()
                    seen.were_up = [guest for guest in self.history.up() if guest in were_up]
                    async for item in stream:
                        seen.items.append(item)
                        if not keep and len(seen.items) >= ITEMS_OF_A_SHORT_STREAM:
                            break  # and open it anew: there is no other way to see that a beginning misses nothing
                        if keep:
                            self._cursor = stream.cursor
                        if isinstance(item, Event) and isinstance(item.payload, ExitEvent):
                            header = item.header
                            self.history.exit_seen(
                                header.process_instance, f"event to {seen.name}", self._now_s, item.payload.exit, header.epoch
                            )
            except CorralError as failure:
                seen.failure = failure if seen.stood_at else None
                await asyncio.sleep(AGAIN_S)
            seen.ended = True

    async def _mirror(self, client: AsyncClient) -> None:
        """list, then follow from its cursor: what containers there are, by events alone."""
        while True:
            try:
                fleet = await list_fleet(client._connection, self._guests)
                if fleet.silent:
                    await asyncio.sleep(1.0)
                    continue
                mirror: dict[str, dict[str, str]] = {guest: {} for guest in self._guests}
                for state in fleet.containers:
                    mirror[state.guest][state.instance] = state.status
                self.history.mirrors[self.name] = mirror
                await self._keep_mirror(client, mirror, fleet.cursor)
            except CorralError:
                self.history.mirrors.pop(self.name, None)
                await asyncio.sleep(AGAIN_S)

    async def _keep_mirror(self, client: AsyncClient, mirror: dict[str, dict[str, str]], cursor: Cursor) -> None:
        """Returns when a fresh list is due."""
        async with client.events(guests=self._guests, after=cursor) as stream:
            async for item in stream:
                if isinstance(item, Resync) or (isinstance(item, EventGap) and item.guest):
                    self.history.mirrors.pop(self.name, None)
                    return
                if isinstance(item, Event):
                    apply_to_mirror(mirror[item.guest], item)


def apply_to_mirror(containers: dict[str, str], item: Event) -> None:
    header = item.header
    if not header.instance:
        return
    before = containers.get(header.instance)
    if header.kind == "deleted":
        containers.pop(header.instance, None)
    elif header.kind == "exit" and header.process == "init":
        containers[header.instance] = "stopped"
    elif header.kind == "resumed":
        containers[header.instance] = "resumed"
    elif header.kind in CONTENT_STATES and before != "stopped":
        containers[header.instance] = CONTENT_STATES[header.kind] if not (header.kind == "started" and before == "paused") else "paused"


async def read_output(process: Any, seen: OutputSeen, history: History, now_s: Any) -> None:
    """Reads to the end, over failures, and notes what came."""
    seen.began_s = now_s()
    offsets = {"stdout": 0, "stderr": 0}
    for _ in range(12):
        output = process.output(stdout=offsets["stdout"], stderr=offsets["stderr"])
        try:
            async for piece in output:
                _note_piece(seen, piece)
                offsets[piece.stream] = piece.end if isinstance(piece, Gap) else piece.offset + len(piece.data)
            seen.finished_s, seen.ends, seen.exit = now_s(), output.ends, output.exit
            history.exit_seen(seen.instance, f"output to {seen.client}", now_s(), output.exit)
            return
        except CorralError as failure:
            seen.failure = failure
            await output.aclose()
            if failure.code not in ("guest_unreachable", "deadline_exceeded", "guest_busy"):
                return
            await asyncio.sleep(AGAIN_S)


def _note_piece(seen: OutputSeen, piece: Piece) -> None:
    if isinstance(piece, Gap):
        seen.pieces.append((piece.stream, piece.start, piece.end, None, piece.reason))
    else:
        seen.pieces.append((piece.stream, piece.offset, piece.offset + len(piece.data), bytes(piece.data), ""))
