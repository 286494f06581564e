"""A client that may be killed at any moment: `python -m chaos.client`, started again, goes on from its diary.

Everything it does follows from the seed, each command has a request id that follows from its turn, and what it has seen is in the diary
before it goes on. So a successor repeats what it does not know the answer of, under the same id, and reads on from the byte it had got to.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chaos.diary import Diary, Fact, facts_in
from chaos.plan import Turn, turn_of
from chaos.twice import TwiceWire
from chaos.witness import Job, Witness
from corral import AsyncClient, Chunk, ContainerSpec, CorralError, Mount, StdioOptions
from corral.channel import Wire, ZmqWire
from corral.container import Container
from corral.process import Process
from corral_schemas.base import Message
from corral_schemas.commands import ContainerTarget, DeleteArgs, KillArgs

T = TypeVar("T")
PATIENCE_S = 90.0
"""No command may take longer, whatever happens."""
AGAIN_S = 0.05
OUT_OF_REACH = ("guest_unreachable", "guest_busy")


class Known:
    """What the diary says of one process."""

    def __init__(self) -> None:
        self.made: Fact | None = None
        self.end: Fact | None = None
        """Its exit, or why there will be none."""
        self.offset = 0
        self.answered: set[str] = set()
        self.refused: Counter[str] = Counter()
        """Command → how often the disk was full: each of these had an id of its own."""

    def learn(self, fact: Fact) -> None:
        kind = fact["kind"]
        if kind == "made":
            self.made = fact
        elif kind in ("exit", "failed"):
            self.end = fact
        elif kind == "read":
            self.offset = fact["start"] + fact["bytes"]
        elif kind == "gap":
            self.offset = fact["end"]
        elif kind == "answered":
            self.answered.add(fact["what"])
        elif kind == "full":
            self.refused[fact["what"]] += 1


class Lane:
    """Turn after turn, one at a time, until a file named `stop` lies beside the witness. One lane in three sends every command twice."""

    def __init__(self, options: argparse.Namespace, number: int) -> None:
        self._options, self._name = options, f"{options.client}-{number}"
        self._make_wire: Callable[[], Wire] = TwiceWire if number % 3 == 1 else ZmqWire
        self._witness = Witness(options.witness)
        path = options.diaries / f"client-{self._name}.jsonl"
        self._diary = Diary(path)
        self._known: dict[str, Known] = {}
        self._turn = 0
        for fact in facts_in(path):
            self._learn(fact)
        self._client: AsyncClient | None = None

    @property
    def _over(self) -> bool:
        witness: Path = self._options.witness
        return (witness / "stop").exists()

    async def run(self) -> None:
        dice = random.Random(f"{self._name}/{self._turn}")
        while not self._over or self._begun:
            async with AsyncClient(
                self._options.broker, timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S, make_wire=self._make_wire
            ) as self._client:
                for _ in range(dice.randint(1, 4)):  # then a new connection
                    if not self._over or self._begun:
                        await self._live(turn_of(self._options.seed, self._name, self._turn, self._options.guests))

    @property
    def _begun(self) -> bool:
        """A turn was under way when a former life was ended."""
        turn = turn_of(self._options.seed, self._name, self._turn, self._options.guests)
        return turn.init.token in self._known

    def _learn(self, fact: Fact) -> None:
        if fact["kind"] == "closed":
            self._turn = fact["turn"] + 1
        else:
            self._known.setdefault(fact["token"], Known()).learn(fact)

    def _note(self, kind: str, token: str = "", **details: Any) -> None:
        self._learn(self._diary.note(kind, token, **details))

    async def _live(self, turn: Turn) -> None:
        container = await self._made(turn, turn.init, lambda request_id: self._run(turn, request_id))
        if container is not None:
            target = ContainerTarget(container=turn.name, instance=container.instance)
            if turn.pauses:
                await self._change(turn, turn.init, "pause", target)
                await self._change(turn, turn.init, "resume", target)
            init = container.process("init", self._instance(turn.init))
            nudging = asyncio.ensure_future(self._nudge(turn, init, turn.init))
            following = asyncio.ensure_future(self._follow(init, turn.init))
            await asyncio.gather(*(self._exec(turn, container, job) for job in turn.execs))
            await nudging
            self._witness.release(turn.init)
            await following
            await self._change(turn, turn.init, "delete", DeleteArgs(container=turn.name, instance=container.instance, force=True))
            if turn.looks_back:
                for job in turn.jobs:
                    await self._look_back(container, job)
        self._note("closed", turn=self._turn)
        for job in turn.jobs:
            self._known.pop(job.token, None)

    async def _run(self, turn: Turn, request_id: str) -> Fact:
        assert self._client is not None
        mount = Mount(source=str(self._witness.directory), destination="/witness")
        spec = ContainerSpec(rootfs=str(self._options.rootfs), args=["sh", "-c", turn.init.script()], mounts=[mount])
        guest, stdio = self._client.guest(turn.guest), _stdio(turn.init)
        made = await guest.run(turn.name, spec=spec, stdio=stdio, request_id=request_id, timeout_s=PATIENCE_S)
        return {"instance": made.instance, "process_instance": made.init.instance}

    async def _exec(self, turn: Turn, container: Container, job: Job) -> None:
        async def ask(request_id: str) -> Fact:
            argv = ["sh", "-c", job.script()]
            made = await container.exec(argv, process=job.token, stdio=_stdio(job), request_id=request_id, timeout_s=PATIENCE_S)
            return {"instance": container.instance, "process_instance": made.instance}

        if await self._made(turn, job, ask) is not None:
            process = container.process(job.token, self._instance(job))
            await asyncio.gather(self._follow(process, job), self._nudge_and_release(turn, process, job))

    async def _made(self, turn: Turn, job: Job, ask: Callable[[str], Awaitable[Fact]]) -> Container | None:
        """The container with the job in it, made now or in a former life; None where that was refused."""
        assert self._client is not None
        if job.token not in self._known:
            self._note("begun", job.token, turn=self._turn)
        known = self._known[job.token]
        if known.made is None and known.end is None:
            try:
                made = await self._answered(job.token, "make", ask)
                self._note("made", job.token, guest=turn.guest, name=turn.name, **made)
            except CorralError as refusal:
                self._note("failed", job.token, code=refusal.code, text=refusal.message)
        if known.made is None:
            return None
        return self._client.guest(turn.guest).container(turn.name, known.made["instance"])

    async def _change(self, turn: Turn, job: Job, what: str, args: Message) -> None:
        """A command of which only whether it was done matters."""
        assert self._client is not None
        client = self._client

        async def ask(request_id: str) -> Message:
            op = "kill" if what == "nudge" else what
            return await client.call(turn.guest, op, args, request_id=request_id, timeout_s=PATIENCE_S, retry_unreachable=True)

        if what not in self._known[job.token].answered:
            try:
                await self._answered(job.token, what, ask)
            except CorralError as refusal:
                self._note("refused", job.token, what=what, code=refusal.code, text=refusal.message)

    async def _answered(self, token: str, what: str, ask: Callable[[str], Awaitable[T]]) -> T:
        """The answer to a command, asked again under its id while its guest is out of reach, and anew where a disk was full."""
        known = self._known[token]
        async with asyncio.timeout(PATIENCE_S * 2):
            while True:
                try:
                    found = await ask(f"{token}.{what}.{known.refused[what]}")
                    self._note("answered", token, what=what, code="")
                    return found
                except CorralError as failure:
                    if failure.code == "storage_full":
                        self._note("full", token, what=what)
                    elif failure.code not in OUT_OF_REACH:
                        self._note("answered", token, what=what, code=failure.code)
                        raise
                    await asyncio.sleep(AGAIN_S)

    def _instance(self, job: Job) -> str:
        """Process instance of a job that was made."""
        made = self._known[job.token].made
        assert made is not None
        return str(made["process_instance"])

    async def _nudge(self, turn: Turn, process: Process, job: Job) -> None:
        """One SIGUSR1, once the job can take it."""
        if not job.nudged:
            return
        while not self._witness.listens(job):
            if self._known[job.token].end is not None:
                return
            await asyncio.sleep(AGAIN_S)
        target = process.target
        args = KillArgs(
            container=target.container,
            instance=target.instance,
            process=target.process,
            process_instance=target.process_instance,
            signal=signal.SIGUSR1,
        )
        await self._change(turn, job, "nudge", args)

    async def _nudge_and_release(self, turn: Turn, process: Process, job: Job) -> None:
        await self._nudge(turn, process, job)
        self._witness.release(job)

    async def _follow(self, process: Process, job: Job) -> None:
        """Every byte from the one it had got to, then the exit. The same question again after each loss of the way there."""
        expected, known = job.output(), self._known[job.token]
        async with asyncio.timeout(PATIENCE_S * 2):
            while known.end is None:
                output = process.output(stdout=known.offset, stderr=None, consumer=job.token if job.blocks else "")
                try:
                    async for piece in output:
                        if isinstance(piece, Chunk):
                            good = expected[piece.offset : piece.offset + len(piece.data)] == piece.data
                            self._note("read", job.token, start=piece.offset, bytes=len(piece.data), good=good)
                        else:
                            self._note("gap", job.token, start=piece.start, end=piece.end, reason=piece.reason)
                    end = output.exit or await process.wait()
                    self._note("exit", job.token, exit=msgspec.to_builtins(end))
                except CorralError as failure:
                    if failure.code not in (*OUT_OF_REACH, "deadline_exceeded"):
                        self._note("failed", job.token, code=failure.code, text=failure.message)
                    await asyncio.sleep(AGAIN_S)
                finally:
                    await output.aclose()

    async def _look_back(self, container: Container, job: Job) -> None:
        """A repeatable read: the same exit and the same bytes, after the container was deleted."""
        known = self._known.get(job.token)
        if known is None or known.made is None or known.end is None or known.end["kind"] != "exit" or "look back" in known.answered:
            return
        process = container.process("init" if job.waits else job.token, known.made["process_instance"])

        async def ask(_: str) -> tuple[Fact, int]:
            output = process.output(stdout=0, stderr=None)
            pieces = [piece async for piece in output]
            total = sum(len(piece.data) if isinstance(piece, Chunk) else piece.end - piece.start for piece in pieces)
            return msgspec.to_builtins(await process.wait()), total

        end, total = await self._answered(job.token, "look back", ask)
        self._note("looked back", job.token, same=end == known.end["exit"] and total == known.offset, exit=end, bytes=total)


def _stdio(job: Job) -> StdioOptions:
    return StdioOptions(policy="block", consumer=job.token) if job.blocks else StdioOptions()


async def _work(options: argparse.Namespace) -> None:
    lanes = [Lane(options, number) for number in range(options.lanes)]
    print("ready", flush=True)
    await asyncio.gather(*(lane.run() for lane in lanes))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--lanes", type=int, default=3)
    parser.add_argument("--witness", type=Path, required=True)
    parser.add_argument("--diaries", type=Path, required=True)
    parser.add_argument("--rootfs", type=Path, required=True)
    parser.add_argument("guests", nargs="+")
    asyncio.run(_work(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
