"""The output of a process: Chunks and Gaps, or just bytes."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from corral.asking_on import ask_on
from corral.connection import Connection
from corral.core.pull import Pull, Read
from corral.core.stitching import Piece, total_bytes
from corral_schemas.errors import error
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.stdio import Gap, ReadStdioArgs, ReadStdioReply, StreamName

if TYPE_CHECKING:
    from corral.process import Process

BUFFERED_BYTES_MAX = 4 << 20
"""Bytes taken in and not yet handed to the caller beyond which nothing more is asked for."""


class Output:
    """Iterate over Chunks and Gaps (see `Process.output`). It reads ahead while the caller works; `aclose` ends that early.

    Iterating raises process_not_found, guest_unreachable, runtime_failed for bytes that do not match their checksum. After the iteration
    `exit`, `ends` and `next` hold what is known then.
    """

    def __init__(
        self,
        connection: Connection,
        process: "Process",
        *,
        stdout: int | None,
        stderr: int | None,
        follow: bool,
        tail_lines: int | None,
        since_ns: int | None,
        verify: bool,
        consumer: str,
    ) -> None:
        placing = tail_lines is not None or since_ns is not None
        self._pull = Pull(
            stdout=stdout, stderr=stderr, follow=follow, placing=placing, verify=verify, eager=not consumer, pinned=bool(process.instance)
        )
        self._follow = follow
        self._connection, self._process = connection, process
        self._tail_lines, self._since_ns, self._consumer = tail_lines, since_ns, consumer
        self._ready: deque[Piece] = deque()
        self._ready_bytes = 0
        self._under_way: dict[asyncio.Task[ReadStdioReply], tuple[Read, float]] = {}

    @property
    def exit(self) -> Exit | None:
        """Return the process's exit, if it was seen here."""
        return self._pull.exit

    @property
    def ends(self) -> dict[str, StreamEnd]:
        """Return the streams read to their end, each with that end."""
        return self._pull.ends

    @property
    def next(self) -> dict[str, int]:
        """Return for each stream the offset to continue from: behind what was handed out, and after the iteration behind all that was
        read.
        """
        at = self._pull.next
        for piece in reversed(self._ready):
            at[piece.stream] = piece.start if isinstance(piece, Gap) else piece.offset
        return at

    def __aiter__(self) -> "Output":
        return self

    async def __anext__(self) -> Piece:
        while not self._ready:
            if self._pull.finished:
                await self.aclose()
                raise StopAsyncIteration
            if self._pull.wants_exit:
                self._pull.on_exit(await self._process.wait())
                continue
            await self._take_some()
        piece = self._ready.popleft()
        self._ready_bytes -= total_bytes([piece])
        if not self._consumer:
            self._launch()
        return piece

    async def aclose(self) -> None:
        """Give up reads under way. Iterating afterwards reads them again."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __del__(self) -> None:
        for task in self._under_way:
            if not task.done() and not task.get_loop().is_closed():
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def _take_some(self) -> None:
        if self._pull.pause_s and not self._under_way:
            await asyncio.sleep(self._pull.pause_s)
        self._launch()
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        loop = asyncio.get_running_loop()
        for task in sorted(done, key=lambda task: self._under_way[task][0].number):
            read, sent_s = self._under_way.pop(task)
            try:
                reply = task.result()
                self._process.pin(reply.instance, reply.process_instance)
                pieces = self._pull.on_reply(read, reply, loop.time() - sent_s)
            except BaseException:
                await self.aclose()
                raise
            self._ready += pieces
            self._ready_bytes += total_bytes(pieces)

    def _launch(self) -> None:
        if self._ready_bytes >= BUFFERED_BYTES_MAX or (self._pull.pause_s and self._ready):
            return
        loop = asyncio.get_running_loop()
        self._pull.settle()
        for read in self._pull.reads():
            task = loop.create_task(_ask(self._connection, self._process, self._args(read), follow=self._follow))
            self._under_way[task] = (read, loop.time())

    def _args(self, read: Read) -> ReadStdioArgs:
        target = self._process.target
        return ReadStdioArgs(
            container=target.container,
            instance=target.instance,
            process=target.process,
            process_instance=target.process_instance,
            stdout=read.wants.get("stdout"),
            stderr=read.wants.get("stderr"),
            wait_ms=read.wait_ms,
            max_bytes=read.max_bytes,
            tail_lines=0 if read.measuring else self._tail_lines if read.placing else None,
            since_ns=self._since_ns if read.placing else None,
            consumer=self._consumer,
        )


async def _ask(connection: Connection, process: "Process", args: ReadStdioArgs, *, follow: bool) -> ReadStdioReply:
    """Apart from Output, so that a read under way does not keep alive an Output that nobody iterates any more."""
    guest, patience_s = process.container.guest, process.patience_s
    if follow:
        return await ask_on(connection, guest, "read_stdio", args, ReadStdioReply, patience_s=patience_s)
    return await connection.ask(guest, "read_stdio", args, ReadStdioReply, patience_s=patience_s)


class ByteStream:
    """The bytes of one stream or of both; each iteration, `pieces`, `lines` and `read` begins anew.

    Bytes that are gone are never skipped in silence: cursor_too_old, with details stream, start and end, is raised at that point
    (`Process.output` gives such gaps as values instead).
    """

    def __init__(self, process: "Process", streams: tuple[StreamName, ...]) -> None:
        self._process, self._streams = process, streams

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield all bytes from the first to the end of the stream, in pieces as they came."""
        return self.pieces()

    async def pieces(self, offset: int = 0, *, follow: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield pieces as they came, from `offset` (bytes since the stream began). follow: to the end, else only what there is now."""
        async with contextlib.aclosing(self._output(offset, follow)) as output:
            async for piece in output:
                yield bytes_of(piece)

    async def lines(self, offset: int = 0, *, follow: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield lines without their newline, the last one also if it has none. Lines of two streams are never mixed."""
        begun: dict[str, bytes] = {}
        async with contextlib.aclosing(self._output(offset, follow)) as output:
            async for piece in output:
                first, *rest = bytes_of(piece).split(b"\n")
                begun[piece.stream] = begun.get(piece.stream, b"") + first
                for line in rest:
                    yield begun[piece.stream]
                    begun[piece.stream] = line
        for line in begun.values():
            if line:
                yield line

    async def read(self, offset: int = 0, *, follow: bool = True) -> bytes:
        """Return all of it, when the stream has ended and the process has exited; without `follow` what there is now."""
        return b"".join([data async for data in self.pieces(offset, follow=follow)])

    def _output(self, offset: int, follow: bool) -> Output:
        if offset and len(self._streams) > 1:
            raise error("bad_request", "an offset is one stream's: give Process.output one for each")
        stdout, stderr = (offset if name in self._streams else None for name in ("stdout", "stderr"))
        return self._process.output(stdout=stdout, stderr=stderr, follow=follow)


def bytes_of(piece: Piece) -> bytes:
    """Its bytes. Raises cursor_too_old for a Gap."""
    if isinstance(piece, Gap):
        raise error(
            "cursor_too_old",
            f"bytes {piece.start} to {piece.end} of {piece.stream} are gone: {piece.reason}" if not piece.open_ended else str(piece),
            stream=piece.stream,
            start=piece.start,
            end=piece.end,
        )
    return piece.data
