"""read_stdio, write_stdin, close_stdin and resize."""

import asyncio

from corral_schemas.errors import error
from corral_schemas.exits import StreamEnd
from corral_schemas.stdio import (
    Chunk,
    CloseStdinArgs,
    Done,
    Gap,
    ReadStdioArgs,
    ReadStdioReply,
    ResizeArgs,
    WriteStdinArgs,
    WriteStdinReply,
)
from corral_worker.commands.execution import Execution
from corral_worker.commands.handlers.change import linked
from corral_worker.containers.guest import Guest
from corral_worker.containers.read_backoff import ReadBackoff
from corral_worker.containers.spools import STREAM_NAMES, STREAM_NUMBERS, Position, Spools
from corral_worker.journal.records import ContainerRecord, ProcessRecord


async def read_stdio(guest: Guest, args: ReadStdioArgs, spools: Spools) -> ReadStdioReply:
    container, processes = guest.find_remains(args.container, args.instance)
    process = guest.find_process(container, processes, args.process, args.process_instance)
    wanted = spools.first_position(process, args)
    if not wanted:
        raise error("bad_request", "read_stdio asks for neither stdout nor stderr")
    link = guest.links.get(container.instance)
    if args.consumer and args.consumer == process.consumer and link is not None:
        link.tell({"t": "consumed", "process": process.instance, "streams": {str(n): offset for n, offset in wanted.items()}})
    now_s = asyncio.get_running_loop().time
    until_s = now_s() + args.wait_ms / 1000
    read_backoff = ReadBackoff()
    while True:
        looked_s = now_s()
        read = spools.read(process, wanted, args.max_bytes)
        left_s = until_s - looked_s
        if read.chunks or read.gaps or left_s <= 0 or _at_end(process, wanted):
            break
        await _growth(guest, container, process, wanted, left_s)
        if pause_s := read_backoff.pause_s(now_s() - looked_s):
            await asyncio.sleep(min(pause_s, left_s))
    if process.exit is not None:
        await guest.journal.durable()
    return _reply(process, read.chunks, read.gaps, read.next)


def _at_end(process: ProcessRecord, position: Position) -> bool:
    """Nothing more can come: every wanted stream has ended and the exit is known."""
    ends = _ends(process)
    return process.exit is not None and all(
        STREAM_NAMES[n] in ends and ends[STREAM_NAMES[n]].total <= offset for n, offset in position.items()
    )


def _ends(process: ProcessRecord) -> dict[str, StreamEnd]:
    """The streams that have ended. A terminal has no stderr: it counts as ended before its first byte."""
    if process.tty:
        return {**process.ends, "stderr": StreamEnd(state="closed", total=0, crc=0)}
    return process.ends


async def _growth(guest: Guest, container: ContainerRecord, process: ProcessRecord, position: Position, left_s: float) -> None:
    """Until there is more output, a stream ends, the exit is recorded, or the time is over."""
    link = guest.links.get(container.instance)
    waiters: list[asyncio.Future[None]] = []
    if link is not None:
        still_open = {str(n): offset for n, offset in position.items() if STREAM_NAMES[n] not in _ends(process)}
        if still_open:
            waiters.append(link.growth(process.instance, still_open, exited=process.exit is not None))
    waiters.append(asyncio.ensure_future(guest.waiters.changed(process)))
    try:
        await asyncio.wait(waiters, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()


def _reply(process: ProcessRecord, chunks: list[Chunk], gaps: list[Gap], position: Position) -> ReadStdioReply:
    return ReadStdioReply(
        process_instance=process.instance,
        instance=process.container,
        chunks=chunks,
        gaps=gaps,
        next={STREAM_NAMES[n]: offset for n, offset in position.items()},
        ends={
            name: _end_seen(end, position[STREAM_NUMBERS[name]]) for name, end in _ends(process).items() if STREAM_NUMBERS[name] in position
        },
        exit=process.exit,
    )


def _end_seen(end: StreamEnd, offset: int) -> StreamEnd:
    """Of a stream that was cut off an asker may have had more than is known here."""
    return StreamEnd(state="closed", total=offset, crc=0, cut=True) if end.cut and offset > end.total else end


def _live(guest: Guest, container: str, instance: str, process: str, process_instance: str) -> tuple[ContainerRecord, ProcessRecord]:
    found = guest.find_container(container, instance)
    one = guest.find_process(found, guest.processes[found.instance], process, process_instance)
    if one.exit is not None:
        raise error("process_not_found", f"process {process} has ended already", process=process, outcome="already_exited")
    return found, one


async def write_stdin(guest: Guest, args: WriteStdinArgs, execution: Execution) -> WriteStdinReply:
    container, process = _stdin_of(guest, args)
    link = await linked(guest, container)
    ok = await execution.step(link, "stdin", blob=args.data, process=process.instance, offset=args.offset, writer=args.writer)
    return WriteStdinReply(offset=ok["offset"])


async def close_stdin(guest: Guest, args: CloseStdinArgs, execution: Execution) -> Done:
    container, process = _stdin_of(guest, args)
    if process.exit is not None:  # its end closed it: a repeat has nothing left to do
        return Done()
    link = await linked(guest, container)
    await execution.step(link, "close_stdin", process=process.instance, offset=args.offset, writer=args.writer)
    return Done()


def _stdin_of(guest: Guest, args: WriteStdinArgs | CloseStdinArgs) -> tuple[ContainerRecord, ProcessRecord]:
    container = guest.find_container(args.container, args.instance)
    process = guest.find_process(container, guest.processes[container.instance], args.process, args.process_instance)
    if not process.stdin or (process.exit is not None and isinstance(args, WriteStdinArgs)):
        why = "its process has ended" if process.exit else "it was not asked for when the process was made"
        raise error("stdin_closed", f"stdin of {container.name}/{process.id} is closed: {why}", process=process.id)
    return container, process


async def resize(guest: Guest, args: ResizeArgs, execution: Execution) -> Done:
    container, process = _live(guest, args.container, args.instance, args.process, args.process_instance)
    if not process.tty:
        raise error("not_a_tty", f"{container.name}/{process.id} has no terminal", process=process.id)
    link = await linked(guest, container)
    await execution.step(link, "resize", process=process.instance, rows=args.rows, columns=args.columns)
    return Done()
