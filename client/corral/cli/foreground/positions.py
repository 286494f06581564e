"""Where a process's streams stand at this moment."""

from typing import TYPE_CHECKING

from corral_schemas.stdio import ReadStdioArgs, ReadStdioReply

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.process import Process


async def offsets_now(client: "AsyncClient", process: "Process") -> dict[str, int]:
    """Stream → number of bytes written to it so far. Raises container_not_found, process_not_found, guest_unreachable."""
    target = process.target
    args = ReadStdioArgs(
        container=target.container,
        instance=target.instance,
        process=target.process,
        process_instance=target.process_instance,
        stdout=0,
        stderr=0,
        tail_lines=0,
        max_bytes=1,
    )
    reply = await client.call(process.container.guest, "read_stdio", args)
    if not isinstance(reply, ReadStdioReply):
        raise TypeError(f"read_stdio was answered with {type(reply).__name__}")
    offsets = dict(reply.next)
    for chunk in reply.chunks:  # written in the very moment between placing and reading
        offsets[chunk.stream] = min(offsets.get(chunk.stream, chunk.offset), chunk.offset)
    return offsets
