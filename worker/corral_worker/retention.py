"""What is kept for how long: events, request records, and what is left of deleted containers."""

import asyncio
import logging
import shutil
from pathlib import Path

import msgspec

from corral_schemas.limits import EVENTS_KEPT, EVENTS_KEPT_MIN_S, EVENTS_KEPT_S, SPOOL_BYTES_PER_GUEST
from corral_worker.guest import Guest
from corral_worker.janitor import sweep
from corral_worker.journal.records import ContainerRecord
from corral_worker.spools import Spools

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
BATCH = 1_000
EVER_NS = 1 << 62


async def keep_tidy(guest: Guest, spools: Spools) -> None:
    """Tidies now and then, for ever."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        await tidy(guest, spools)


async def tidy(guest: Guest, spools: Spools) -> None:
    """Removes what is past its time, and the oldest remains where the guest keeps too many bytes."""
    await sweep(guest)
    _prune_events(guest)
    journal, settings = guest.journal, guest.settings
    journal.set_meta("worker_ms", str(journal.worker_ms()))
    oldest_ms = journal.worker_ms() - int(settings.requests_kept_s * 1000)
    journal.execute("DELETE FROM requests WHERE done = 1 AND recorded_ms < ?", (oldest_ms,))
    past_ns = journal.worker_ms() * 1_000_000 - int(settings.remains_kept_s * 1e9)  # whatever the wall clock does
    while batch := journal.store.deleted_containers(past_ns, BATCH):
        for container in batch:
            await _forget(guest, spools, container)
        await journal.durable()  # then the next look does not find them again
    await _keep_under_cap(guest, spools)
    await guest.bundle_store.tidy()


def _prune_events(guest: Guest) -> None:
    """By age (in worker time), and by count beyond a minimal age; the newest event always stays (it tells the journal's place)."""
    journal = guest.journal
    journal.note_hour()
    journal.set_meta("last_seq_by_kind", msgspec.json.encode(journal.last_seq_by_kind).decode())
    too_many = min(journal.last_seq - EVENTS_KEPT, journal.seq_before(EVENTS_KEPT_MIN_S))
    upto = min(max(journal.seq_before(EVENTS_KEPT_S), too_many), journal.last_seq - 1)
    if upto > 0:
        journal.execute("DELETE FROM events WHERE seq <= ?", (upto,))


async def _forget(guest: Guest, spools: Spools, container: ContainerRecord) -> None:
    for process in guest.journal.store.processes(container.instance):
        spools.drop(process.instance)
    guest.journal.execute("DELETE FROM processes WHERE container = ?", (container.instance,))
    guest.journal.execute("DELETE FROM containers WHERE instance = ?", (container.instance,))
    await asyncio.to_thread(shutil.rmtree, guest.settings.paths.container(container.instance), ignore_errors=True)


async def _keep_under_cap(guest: Guest, spools: Spools) -> None:
    """Beyond the guest's cap the oldest deleted containers' output goes before its time."""
    used = await asyncio.to_thread(_spool_bytes, guest.settings.paths.instances, "*/*/*.spool")
    if used <= SPOOL_BYTES_PER_GUEST:
        return
    for container in guest.journal.store.deleted_containers(EVER_NS, BATCH):
        directory = guest.settings.paths.container(container.instance)
        freed = await asyncio.to_thread(_spool_bytes, directory, "*/*.spool")
        log.warning("output of deleted container %s (%d bytes) goes early: the guest keeps %d bytes", container.name, freed, used)
        await _forget(guest, spools, container)
        used -= freed
        if used <= SPOOL_BYTES_PER_GUEST:
            return


def _spool_bytes(directory: Path, pattern: str) -> int:
    """Of the spools that match; root file systems of containers, which also lie there, are not looked through."""
    total = 0
    for path in directory.glob(pattern):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
