"""At the end, when all is healed: a fresh client asks every guest for everything it knows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from corral.async_client import AsyncClient
from corral.bundle.bundles import Bundles
from corral.container import Container
from corral_schemas.bundles import BundleInfo
from corral_schemas.commands import ContainerTarget
from corral_schemas.containers import ContainerState
from corral_schemas.cursor import Place
from corral_schemas.errors import CorralError
from corral_schemas.events import EventHeader
from corral_schemas.exits import Exit
from corral_schemas.frames import decode_event
from corral_schemas.ops import OPS
from corral_schemas.queries import ListReply, ReplayArgs, ReplayReply, ResultArgs, ResultReply, WaitArgs, WaitReply
from corral_testkit.sim.client import AGAIN_S, read_output
from corral_testkit.sim.history import History, OutputSeen
from corral_testkit.sim.network import Network
from corral_testkit.sim.process import Host, Process
from corral_testkit.sim.sockets import SimWire
from corral_testkit.sim.witness import Witness


@dataclass
class GuestTruth:
    """What one guest says of itself at the end."""

    place: Place
    events: list[tuple[EventHeader, dict[str, object]]]
    containers: list[ContainerState]
    exits: dict[str, Exit | str] = field(default_factory=dict)
    """Process instance → its exit as `wait` gives it, or the code of the error."""
    results: dict[str, ResultReply] = field(default_factory=dict)
    bundles: list[BundleInfo] = field(default_factory=list)


class Audit:
    """`done` once `truths` holds every guest."""

    def __init__(self, network: Network, brokers: list[str], guests: list[str], history: History, witness: Witness) -> None:
        self._network, self._brokers, self._guests, self._history, self._witness = network, brokers, guests, history, witness
        self.truths: dict[str, GuestTruth] = {}
        self.done = False
        self._process = Process(network.loop, Host("auditor"), "auditor")

    def start(self) -> None:
        self._process.spawn(self._run())

    async def _run(self) -> None:
        client = AsyncClient(self._brokers, retry_unreachable=True, make_wire=lambda: SimWire(self._network, self._process))
        async with client:
            while any(not info.up for info in await client.guests()):
                await asyncio.sleep(AGAIN_S)
            for guest in self._guests:
                self.truths[guest] = await self._ask(client, guest)
            self.done = True

    async def _ask(self, client: AsyncClient, guest: str) -> GuestTruth:
        listed = await client.call(guest, "list", ContainerTarget(container=""))
        assert isinstance(listed, ListReply)
        truth = GuestTruth(listed.place, await self._events(client, guest, listed.place), listed.containers)
        if any(one.step.op == "push" for one in self._history.transfers):
            truth.bundles = (await Bundles(client._connection, guest).list()).bundles
        for state in listed.containers:
            for info in state.processes:
                self._history.exit_seen(info.instance, "list by the auditor", 0.0, info.exit, listed.place.epoch)
        for header, _ in truth.events:
            if header.kind in ("created", "exec_started", "exit") and header.process_instance not in truth.exits:
                truth.exits[header.process_instance] = await self._exit(client, header)
        ids = {
            asked.step.request_id
            for asked in self._history.asked
            if self._guests[asked.step.guest] == guest and OPS[asked.step.op].mutating
        }
        for request_id in sorted(ids):
            reply = await client.call(guest, "result", ResultArgs(id=request_id))
            assert isinstance(reply, ResultReply)
            truth.results[request_id] = reply
        return truth

    async def _events(self, client: AsyncClient, guest: str, upto: Place) -> list[tuple[EventHeader, dict[str, object]]]:
        events: list[tuple[EventHeader, dict[str, object]]] = []
        after = 0
        while after < upto.seq:
            reply = await client.call(guest, "replay", ReplayArgs(epoch=upto.epoch, after=after))
            assert isinstance(reply, ReplayReply)
            events += [decode_event([b"", *frames]) for frames in reply.events]
            if reply.upto <= after:
                self._history.findings.append(f"G9 replay of {guest} after {after} says nothing, though the journal goes to {upto.seq}")
                break
            after = reply.upto
        return events

    async def _exit(self, client: AsyncClient, header: EventHeader) -> Exit | str:
        target = {"container": header.container, "instance": header.instance, "process": header.process}
        args = WaitArgs(**target, process_instance=header.process_instance, timeout_ms=0)
        try:
            reply = await client.call(header.guest, "wait", args)
        except CorralError as failure:
            return failure.code
        assert isinstance(reply, WaitReply)
        self._history.exit_seen(header.process_instance, "wait by the auditor", 0.0, reply.exit)
        life = self._witness.by_instance.get(header.process_instance)
        if life is not None:
            await self._output(client, header, life.token)
        return reply.exit

    async def _output(self, client: AsyncClient, header: EventHeader, token: str) -> None:
        seen = OutputSeen(header.guest, header.container, header.process_instance, token, "auditor")
        self._history.outputs.append(seen)
        process = Container(client._connection, header.guest, header.container, header.instance).process(
            header.process, header.process_instance
        )
        try:
            async with asyncio.timeout(30):
                await read_output(process, seen, self._history, self._network.loop.time)
        except TimeoutError:
            return
