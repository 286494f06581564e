"""Writing a process's stdin: every byte once, by its offset among all that this writer has written."""

import asyncio
from typing import TYPE_CHECKING

from corral.connection import Connection
from corral.words import new_request_id
from corral_schemas.errors import DeadlineError
from corral_schemas.limits import STDIO_CHUNK_BYTES_MAX
from corral_schemas.stdio import CloseStdinArgs, Done, WriteStdinArgs, WriteStdinReply

if TYPE_CHECKING:
    from corral.process import Process

FULL_FIRST_S, FULL_MAX_S = 0.01, 0.5


class Stdin:
    """Safe to repeat: bytes the guest has taken already are skipped there. Writes of several tasks follow one another whole.

    Several writers (objects of this class, in one program or in many) may write to one process: each has offsets to itself.
    fresh: the process was just started by this client, so nothing has been written yet; otherwise the first write asks where stdin stands,
    since a worker of an older version counts the bytes of all writers.
    """

    def __init__(self, connection: Connection, process: "Process", *, fresh: bool) -> None:
        self._connection, self._process = connection, process
        self._lock = asyncio.Lock()
        self._writer = new_request_id()
        self._known = fresh
        self.offset: int = 0
        """Bytes that the guest has taken from this writer, as far as is known here."""

    async def write(self, data: bytes) -> None:
        """Write all of it, and return when the guest has taken it; that takes as long as the process does not read.

        Raises stdin_closed, process_not_found, guest_unreachable; `offset` then says how many bytes were taken. If cancelled, a beginning
        of the data may have been taken; the next write follows it.
        """
        async with self._lock:
            if not self._known:
                self.offset = await self._write(b"")
            self._known = False  # until this write has come to its end, since a cancelled one leaves it open
            view, begin, full_s = memoryview(data), self.offset, FULL_FIRST_S
            while (done := self.offset - begin) < len(view):
                try:
                    taken = await self._write(bytes(view[done : done + STDIO_CHUNK_BYTES_MAX]))
                except DeadlineError as why:
                    if why.code != "deadline_exceeded":
                        raise
                    taken = await self._write(b"")  # the process does not read, or nobody answers at all: this tells
                if taken > self.offset:
                    self.offset, full_s = taken, FULL_FIRST_S
                else:  # its buffer is full and the guest did not wait for room
                    await asyncio.sleep(full_s)
                    full_s = min(full_s * 2, FULL_MAX_S)
            self._known = True

    async def close(self) -> None:
        """Send end of file, after everything written so far."""
        async with self._lock:
            target = self._process.target
            args = CloseStdinArgs(
                container=target.container,
                instance=target.instance,
                process=target.process,
                process_instance=target.process_instance,
                offset=self.offset if self._known else None,
                writer=self._writer,
            )
            await self._connection.ask(self._process.container.guest, "close_stdin", args, Done, patience_s=self._process.patience_s)

    async def _write(self, data: bytes) -> int:
        target = self._process.target
        args = WriteStdinArgs(
            container=target.container,
            instance=target.instance,
            process=target.process,
            process_instance=target.process_instance,
            offset=self.offset,
            writer=self._writer,
            data=data,
        )
        reply = await self._connection.ask(
            self._process.container.guest, "write_stdin", args, WriteStdinReply, patience_s=self._process.patience_s
        )
        return reply.offset
