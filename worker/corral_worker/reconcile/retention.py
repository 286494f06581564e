"""What is kept for how long: events, request records, and what is left of deleted containers."""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from corral_schemas.limits import EVENTS_KEPT, EVENTS_KEPT_MIN_S, EVENTS_KEPT_S, SPOOL_BYTES_PER_GUEST
from corral_schemas.memory import give_back
from corral_worker.containers.guest import Guest
from corral_worker.containers.spools import Spools
from corral_worker.journal.journal import Journal
from corral_worker.journal.records import ContainerRecord
from corral_worker.reconcile.janitor import sweep

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
BATCH = 100
"""Deleted containers that go together: so many directories to a commit."""
REMOVALS_AT_ONCE = 4
"""A removal waits for the disk most of its time: on a busy one four at once are five times faster than one after the other."""
ROWS_A_COMMIT = 1_000
"""Events and request records that go together: commands wait for the journal's thread meanwhile, so it is not kept for long."""
EVER_NS = 1 << 62
_DELETE_REQUESTS = """
DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests WHERE done = 1 AND recorded_ms < ? ORDER BY recorded_ms LIMIT ?)
"""


async def keep_tidy(guest: Guest, spools: Spools) -> None:
    """Tidies now and then, for ever."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        try:
            await tidy(guest, spools)
        except OSError:  # of a disk that fails: the next round tries again
            log.exception("what is past its time could not all be removed")


async def tidy(guest: Guest, spools: Spools) -> None:
    """Removes what is past its time, and the oldest remains where the guest keeps too many bytes."""
    await sweep(guest)
    await _prune_events(guest)
    journal, settings = guest.journal, guest.settings
    journal.set_meta("worker_ms", str(journal.worker_ms()))
    await _prune_requests(guest)
    past_ns = journal.worker_ms() * 1_000_000 - int(settings.remains_kept_s * 1e9)  # whatever the wall clock does
    while batch := journal.store.deleted_containers(past_ns, BATCH):
        await _forget(guest, spools, batch)
    await _keep_under_cap(guest, spools)
    await guest.bundle_store.tidy()
    await asyncio.to_thread(give_back)  # malloc keeps what one round or a burst of commands took: a worker is to stay as small as it is


async def _prune_events(guest: Guest) -> None:
    """What went is gone from disk when this returns; the newest seq of each kind is remembered."""
    journal = guest.journal
    journal.note_hour()
    journal.set_meta("last_seq_by_kind", msgspec.json.encode(journal.last_seq_by_kind).decode())
    while upto := _next_events_to_go(journal):
        journal.execute("DELETE FROM events WHERE seq <= ?", (upto,))
        await journal.durable()


def _next_events_to_go(journal: Journal) -> int:
    """The seq up to which events go in the next commit; 0 where all that are left stay. Asked anew each time: an epoch may begin meanwhile.

    By age (in worker time), and by count beyond a minimal age; the newest event always stays (it tells the journal's place).
    """
    too_many = min(journal.last_seq - EVENTS_KEPT, journal.seq_before(EVENTS_KEPT_MIN_S))
    past = min(max(journal.seq_before(EVENTS_KEPT_S), too_many), journal.last_seq - 1)
    first = journal.store.first_seq()
    return min(past, first + ROWS_A_COMMIT - 1) if 0 < first <= past else 0


async def _prune_requests(guest: Guest) -> None:
    """Those that are done, by age in worker time."""
    journal = guest.journal
    oldest_ms = journal.worker_ms() - int(guest.settings.requests_kept_s * 1000)
    while journal.store.has_done_requests(oldest_ms):
        journal.execute(_DELETE_REQUESTS, (oldest_ms, ROWS_A_COMMIT))
        await journal.durable()


async def _forget(guest: Guest, spools: Spools, containers: list[ContainerRecord]) -> None:
    """Files first: what a worker leaves that ends in the middle of it is found again by its record. One commit for all of them.

    Returns once it is on disk: the next look does not find them again.
    """
    journal, loop = guest.journal, asyncio.get_running_loop()
    directories = [guest.settings.paths.container(container.instance) for container in containers]
    pool = ThreadPoolExecutor(REMOVALS_AT_ONCE, "retention")  # its own: commands, too, have threads wait for the disk
    try:
        await asyncio.gather(*(loop.run_in_executor(pool, partial(shutil.rmtree, one, ignore_errors=True)) for one in directories))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for container in containers:
        for process in journal.store.processes(container.instance):
            spools.drop(process.instance)
        journal.execute("DELETE FROM processes WHERE container = ?", (container.instance,))
        journal.execute("DELETE FROM containers WHERE instance = ?", (container.instance,))
    await journal.durable()


async def _keep_under_cap(guest: Guest, spools: Spools) -> None:
    """Beyond the guest's cap the oldest deleted containers' output goes before its time."""
    used = await asyncio.to_thread(_spool_bytes_in, guest.settings.paths.instances)
    while used > SPOOL_BYTES_PER_GUEST and (batch := guest.journal.store.deleted_containers(EVER_NS, BATCH)):
        for container in batch:
            freed = await asyncio.to_thread(_spool_bytes, str(guest.settings.paths.container(container.instance)))
            log.warning("output of deleted container %s (%d bytes) goes early: the guest keeps %d bytes", container.name, freed, used)
            await _forget(guest, spools, [container])
            used -= freed
            if used <= SPOOL_BYTES_PER_GUEST:
                return


def _spool_bytes_in(instances: Path) -> int:
    """One directory after the other: there may be very many, and a list of them all is memory that is needed once a minute."""
    with os.scandir(instances) as containers:
        return sum(_spool_bytes(container.path) for container in containers)


def _spool_bytes(container: str) -> int:
    """Of all processes of a container; root file systems of containers, which also lie there, are not looked through."""
    total = 0
    for file in _files_two_down(container):
        if file.name.endswith(".spool"):
            try:
                total += file.stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _files_two_down(directory: str) -> "Iterator[os.DirEntry[str]]":
    try:
        with os.scandir(directory) as processes:
            for process in processes:
                if process.is_dir(follow_symlinks=False):
                    with os.scandir(process.path) as files:
                        yield from files
    except (FileNotFoundError, NotADirectoryError):
        log.debug("%s is just being removed, or none of ours", directory)
