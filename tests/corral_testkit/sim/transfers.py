"""A client's bundles and files: the real library's pushes, looks, removals and copies, each noted down with its outcome."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from corral.async_client import AsyncClient
from corral.bundle.bundles import Bundles
from corral.copying import copy_in, copy_out
from corral_schemas.commands import ContainerTarget
from corral_schemas.errors import CorralError
from corral_testkit.sim.contents import MTIME_NS, Contents, file_bytes
from corral_testkit.sim.history import History, Transfer
from corral_testkit.sim.loop import SimLoop
from corral_testkit.sim.scenario import Step

OPS = frozenset({"push", "bundles", "remove_bundle", "collect_bundles", "write_file", "read_file"})
"""Steps that are done here."""


def path_of(container: str) -> str:
    """The one file of a container that is written and read."""
    return f"/{container}-file"


class Transfers:
    """Of one client."""

    def __init__(self, loop: SimLoop, client: str, guests: list[str], contents: Contents, directory: Path, history: History) -> None:
        """`directory`: of the client's own files."""
        self._loop, self._client, self._guests, self._history = loop, client, guests, history
        self._contents, self._directory = contents, directory

    async def do(self, client: AsyncClient, step: Step) -> None:
        """Ends with an outcome in the history, unless the client is killed first."""
        noted = Transfer(step, self._guests[step.guest], self._client, self._loop.time())
        self._history.transfers.append(noted)
        try:
            noted.outcome = await self._done(client, step, noted.guest)
        except CorralError as failure:
            noted.outcome = failure
        noted.done_s = self._loop.time()

    async def _done(self, client: AsyncClient, step: Step, guest: str) -> Any:
        bundles = Bundles(client._connection, guest)
        target = ContainerTarget(container=step.container)
        match step.op:
            case "write_file":
                path = self._file(step, file_bytes(step.container, step.number))
                return await copy_in(client._connection, guest, target, path, path_of(step.container))
            case "read_file":
                copied = await copy_out(client._connection, guest, target, path_of(step.container), self._file(step, b""))
                return copied.read_bytes()
            case "collect_bundles":
                return await bundles.collect(named=step.details["named"])
        content = self._contents.bundles[step.details["bundle"]]
        if step.op == "push":
            return await bundles.push(content.packed, [content.name])
        if step.op == "remove_bundle":
            return await bundles.remove(content.name)
        await bundles.list()
        return await bundles.inspect(content.name, entries_max=10)

    def _file(self, step: Step, data: bytes) -> Path:
        path = self._directory / f"{self._client}-{step.number}"
        path.write_bytes(data)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
        return path
