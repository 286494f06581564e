"""What a target left behind, written into the run's directory: the reply, the exit, and every byte that its process wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from corral.batch.moves import Result, Send
from corral.batch.rundir import as_json
from corral_schemas.base import Message
from corral_schemas.errors import CorralError
from corral_schemas.exits import Exit
from corral_schemas.stdio import Gap

if TYPE_CHECKING:
    from corral.process import Process

SUFFIXES = {"stdout": "out", "stderr": "err"}


async def keep(
    path: Callable[[str], Path], send: Send, result: Result, *, reply: Message | None, process: "Process | None", end: Exit | None
) -> int:
    """Writes N.json, and N.out and N.err where there is output. Returns how many bytes of output there were. Raises OSError."""
    received_bytes, trouble = 0, ""
    if process is not None and end is not None:
        try:
            received_bytes = await _keep_output(path, process, end)
        except CorralError as why:
            trouble = f"not all of its output could be read: {why}"
    record = {
        "guest": send.sent.guest,
        "item": send.target.item,
        "attempt": send.sent.attempt,
        "request": send.sent.request,
        "outcome": result.outcome,
        "reason": result.reason,
        "status": result.status,
        "reply": reply,
        "exit": end,
        "trouble": trouble,
    }
    path("json").write_bytes(as_json({name: value for name, value in record.items() if value not in (None, "")}))
    return received_bytes


async def _keep_output(path: Callable[[str], Path], process: "Process", end: Exit) -> int:
    wanted = {name: 0 for name, stream in end.streams.items() if stream.total}
    if not wanted:
        return 0
    count = 0
    files = {name: path(SUFFIXES[name]).open("wb") for name in wanted}
    try:
        # Up to what there is at the exit: a descendant that still holds the streams is not waited for.
        async for piece in process.output(stdout=wanted.get("stdout"), stderr=wanted.get("stderr"), follow=False):
            if isinstance(piece, Gap):
                files[piece.stream].write(f"\n[corral: at byte {piece.start}: {piece}]\n".encode())
            else:
                files[piece.stream].write(piece.data)
                count += len(piece.data)
    finally:
        for file in files.values():
            file.close()
    return count
