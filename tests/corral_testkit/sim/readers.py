"""Who reads or waits for as long as it takes, by the library's own means: an error ends it, and is noted down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corral.completed import complete
from corral.output import Output
from corral.process import Process
from corral_schemas.errors import CorralError
from corral_schemas.stdio import Gap
from corral_testkit.sim.history import Followed, OutputSeen


async def follow(process: Process, followed: Followed, seen: OutputSeen, now_s: Callable[[], float]) -> None:
    """To the end of the process, or the first error."""
    followed.began_s = seen.began_s = now_s()
    try:
        await _HOW[followed.how](process, followed, seen, now_s)
        followed.finished_s = now_s()
    except CorralError as failure:
        followed.failure, followed.failed_s = failure, now_s()
    seen.instance = process.instance


async def _output(process: Process, followed: Followed, seen: OutputSeen, now_s: Callable[[], float]) -> None:
    output: Output = process.output()
    async for piece in output:
        end = piece.end if isinstance(piece, Gap) else piece.offset + len(piece.data)
        start = piece.start if isinstance(piece, Gap) else piece.offset
        seen.pieces.append((piece.stream, start, end, None if isinstance(piece, Gap) else bytes(piece.data), ""))
        followed.came.append((piece.stream, end, now_s()))
    seen.ends, seen.exit, seen.finished_s, followed.exit = output.ends, output.exit, now_s(), output.exit


async def _lines(process: Process, followed: Followed, seen: OutputSeen, now_s: Callable[[], float]) -> None:
    got = b"".join([line + b"\n" async for line in process.stdout.lines()])
    followed.bytes = len(got)
    followed.exit = await process.wait()


async def _run(process: Process, followed: Followed, seen: OutputSeen, now_s: Callable[[], float]) -> None:
    followed.exit = (await complete(process, [], None, None)).exit


async def _wait(process: Process, followed: Followed, seen: OutputSeen, now_s: Callable[[], float]) -> None:
    followed.exit = await process.wait()


_HOW: dict[str, Any] = {"output": _output, "lines": _lines, "run": _run, "wait": _wait}
