"""Which handler carries out which op."""

from functools import partial

from corral_schemas.base import Message
from corral_schemas.commands import ContainerTarget
from corral_schemas.stdio import CloseStdinArgs, ReadStdioArgs, ResizeArgs, WriteStdinArgs
from corral_worker.commands.execution import internal_execution
from corral_worker.commands.handlers import bundles, change, create, delete, files, query, stdio
from corral_worker.commands.requests import Change, Query
from corral_worker.containers.guest import Guest
from corral_worker.containers.spools import Spools

STDIN_TIMEOUT_S = 60.0

CHANGES: dict[str, Change] = {
    "create": create.create,
    "start": create.start,
    "run": create.run,
    "exec": create.exec_,
    "kill": change.kill,
    "stop": change.stop,
    "pause": change.pause,
    "resume": change.resume,
    "update": change.update,
    "delete": delete.delete,
    "commit_bundle": bundles.commit_bundle,
    "remove_bundle": bundles.remove_bundle,
    "collect_bundles": bundles.collect_bundles,
    "write_file": files.write_file,
}


def queries(spools: Spools) -> dict[str, Query]:
    """All but those that the worker answers from what it knows of itself and of requests: cancel, result, info."""

    async def read_stdio(guest: Guest, args: ReadStdioArgs) -> Message:
        return await stdio.read_stdio(guest, args, spools)

    async def stats(guest: Guest, args: ContainerTarget) -> Message:
        return await query.stats(guest, args, spools)

    return {
        "state": query.state,
        "list": query.list_,
        "ps": query.ps,
        "stats": stats,
        "wait": query.wait,
        "replay": query.replay,
        "upload": bundles.upload,
        "open_bundle": bundles.open_bundle,
        "write_bundle": bundles.write_bundle,
        "list_bundles": bundles.list_bundles,
        "inspect_bundle": bundles.inspect_bundle,
        "read_file": files.read_file,
        "read_stdio": read_stdio,
        "write_stdin": partial(_at_once, stdio.write_stdin),
        "close_stdin": partial(_at_once, stdio.close_stdin),
        "resize": partial(_at_once, stdio.resize),
    }


async def _at_once(handler: Change, guest: Guest, args: WriteStdinArgs | CloseStdinArgs | ResizeArgs) -> Message:
    """Steps that are safe to repeat by their own content (offset, size): not recorded."""
    execution = internal_execution(guest, guest.new_instance(), args, timeout_s=STDIN_TIMEOUT_S)
    try:
        return await handler(guest, args, execution)
    finally:
        execution.acknowledge()
