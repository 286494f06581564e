"""What is kept of deleted containers goes once it is past its time, however much it is."""

from __future__ import annotations

import time
from pathlib import Path

from corral_testkit.bounded import run
from corral_testkit.guests import Room, open_room
from corral_worker.retention import BATCH, tidy
from corral_worker.spools import Spools

DAY_NS = 86_400 * 10**9


def deleted(room: Room, name: str, age_ns: int) -> None:
    """A container that was deleted so long ago, with its directory."""
    container = room.container(name, "stopped")
    room.paths.container(container.instance).mkdir()
    room.guest.mark_deleted(container)
    container.deleted_ns = time.time_ns() - age_ns
    room.journal.save(container)


def test_more_than_a_batch_goes_in_one_round_and_what_is_young_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_room(tmp_path) as room:
            for number in range(BATCH + 200):
                deleted(room, f"old-{number}", 2 * DAY_NS)
            deleted(room, "young", DAY_NS // 2)
            await room.journal.durable()
            await tidy(room.guest, Spools(room.guest))
            await room.journal.durable()
            assert len(list(room.paths.instances.iterdir())) == 1
            assert [one.name for one in room.journal.store.deleted_containers(time.time_ns(), BATCH)] == ["young"]

    run(work())
