"""A reader that waits for output costs the worker next to nothing, also where what the shim tells of never reaches the spool."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from corral_schemas.stdio import ReadStdioArgs
from corral_testkit.bounded import run
from corral_testkit.guests import open_room
from corral_worker.base.tasks import Tasks
from corral_worker.commands.handlers import stdio
from corral_worker.containers.spools import Position, Read, Spools
from corral_worker.journal.records import ProcessRecord
from corral_worker.shim.spool.writer import SpoolWriter
from corral_worker.uplink.stdio_feed import StdioFeed

WAIT_MS = 600
PRINTED = b"hello\n"


class CountingSpools(Spools):
    """Counts the looks, and appends at the n-th of them."""

    looks = 0
    spool: SpoolWriter
    appends_at = 0

    def read(self, process: ProcessRecord, position: Position, max_bytes: int) -> Read:
        self.looks += 1
        if self.looks == self.appends_at:
            self.spool.append(1, PRINTED, 0)
        return super().read(process, position, max_bytes)


class GrownShim:
    """A shim that always knows of more than its full disk has taken."""

    def growth(self, process: str, after: dict[str, int], *, exited: bool) -> asyncio.Future[None]:
        grown = asyncio.get_running_loop().create_future()
        grown.set_result(None)
        return grown


@pytest.mark.timeout(30)
@pytest.mark.parametrize("appends_at", [0, 6])
def test_a_reader_told_of_bytes_that_are_not_there_looks_ever_more_rarely(tmp_path: Path, appends_at: int) -> None:
    async def body() -> None:
        async with open_room(tmp_path) as room:
            container = room.container()
            spools = CountingSpools(room.guest)
            directory = room.paths.process(container.instance, container.init)
            directory.mkdir(parents=True)
            spools.spool = SpoolWriter(directory, cap_bytes=1 << 20, policy="drop", on_gap=lambda *_: None)
            spools.appends_at = appends_at
            room.guest.links[container.instance] = cast(Any, GrownShim())
            reply = await stdio.read_stdio(room.guest, ReadStdioArgs(container="c1", stdout=0, wait_ms=WAIT_MS), spools)
            assert [bytes(chunk.data) for chunk in reply.chunks] == ([PRINTED] if appends_at else [])
            assert spools.looks <= 9, "0, 0, 10, 30, 70, 150, 310, 560 ms and the end"
            spools.close()
            spools.spool.close()

    run(body())


@pytest.mark.timeout(30)
def test_so_does_the_feed_of_raw_subscribers(tmp_path: Path) -> None:
    async def body() -> None:
        async with open_room(tmp_path) as room:
            container, tasks = room.container(), Tasks()
            spools, published = CountingSpools(room.guest), list[list[bytes]]()
            directory = room.paths.process(container.instance, container.init)
            directory.mkdir(parents=True)
            spools.spool, spools.appends_at = SpoolWriter(directory, cap_bytes=1 << 20, policy="drop", on_gap=lambda *_: None), 6
            room.guest.links[container.instance] = cast(Any, GrownShim())
            StdioFeed(room.guest, spools, tasks, published.append).want({b"stdio/g1/"})
            await asyncio.sleep(WAIT_MS / 1000)
            await tasks.stop()
            assert [bytes(frames[2]) for frames in published] == [PRINTED]
            assert spools.looks <= 13, "as above, and anew from the bytes on"
            spools.close()
            spools.spool.close()

    run(body())
