"""What is left of the output of a process that nobody wrote down to its end: its guest lost power, or its shim died.

What is on disk is checked and kept. What is known to have been beyond it (a reader had it, an event told of it) is a gap; and where the
stream had not ended, how far it went is known to nobody: it ends where the last known byte was, `cut`, after a gap with an open end.
"""

import asyncio
import logging
from pathlib import Path

from corral_schemas.events import StdioGap
from corral_schemas.exits import StreamEnd
from corral_worker.containers.guest import Guest
from corral_worker.containers.spools import POWER_CUT, SHIM_DIED, STREAM_NAMES, STREAM_NUMBERS, Spools
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.reconcile.notices import Notices
from corral_worker.shim.spool.end_file import END_FILE_NAME, read_end
from corral_worker.shim.spool.tail import ends_kept, repair_tail

log = logging.getLogger(__name__)

NOTE_INTERVAL_S = 1.0


async def note_reads(guest: Guest, spools: Spools) -> None:
    """Records now and then how far readers have had the output of processes that live; nobody waits for it."""
    while True:
        await asyncio.sleep(NOTE_INTERVAL_S)
        for process, position in spools.take_read_to():
            read_to = dict(process.read_to)
            for number, offset in position.items():
                read_to[STREAM_NAMES[number]] = max(read_to.get(STREAM_NAMES[number], 0), offset)
            lives = guest.processes.get(process.container, {}).get(process.instance) is process and process.exit is None
            if lives and read_to != process.read_to:
                process.read_to = read_to
                guest.journal.save(process)


def kept_of(directory: Path, process: ProcessRecord, *, torn: bool) -> dict[str, StreamEnd]:
    """Per stream how much of it is on disk. With `torn` the power was cut: what does not match its checksum at the end is removed."""
    names = ("stdout",) if process.tty else tuple(STREAM_NUMBERS)
    try:
        if torn and (cut_bytes := repair_tail(directory)):
            log.warning("%s/%s: %d torn bytes at the end of its spool are removed", process.container_name, process.id, cut_bytes)
        states = ends_kept(directory)
    except OSError as why:
        log.warning("the output in %s cannot be read: %s", directory, why)
        return {name: StreamEnd(state="open", total=0, crc=0) for name in names}
    found = {name: states[STREAM_NUMBERS[name]] for name in names}
    return {name: StreamEnd(state="open", total=state.offset, crc=state.crc) for name, state in found.items()}


def end_streams(
    guest: Guest, notices: Notices, container: ContainerRecord, process: ProcessRecord, kept: dict[str, StreamEnd], *, rebooted: bool
) -> None:
    """Nobody writes any more: says which bytes are gone, and ends what the exit calls open."""
    assert process.exit is not None
    told = _told_of(guest.settings.paths.process(container.instance, process.instance), process)
    for name in process.exit.streams:
        at = kept[name].total
        known = process.ends.get(name)
        if known is None:
            total = max(at, process.exit.streams[name].total, told.get(name, 0))
            _say_gap(guest, container, process, StdioGap(stream=name, start=at, end=total, reason=_reason(rebooted), open_ended=True))  # type: ignore[arg-type]
            notices.record_stream_end(container, process, name, total, kept[name].crc if total == at else 0, cut=True)
        elif rebooted and at < known.total and process.gaps_told.get(name, (0, 0))[1] < known.total:
            _say_gap(guest, container, process, StdioGap(stream=name, start=at, end=known.total, reason=POWER_CUT))  # type: ignore[arg-type]


def _reason(rebooted: bool) -> str:
    return POWER_CUT if rebooted else SHIM_DIED


def _say_gap(guest: Guest, container: ContainerRecord, process: ProcessRecord, gap: StdioGap) -> None:
    number, _ = process.gaps_told.get(gap.stream, (0, 0))
    process.gaps_told = {**process.gaps_told, gap.stream: (number, gap.end)}
    guest.journal.save(process)
    guest.journal.event("stdio_gap", gap, container, process)


def _told_of(directory: Path, process: ProcessRecord) -> dict[str, int]:
    """How far each stream is known to have gone: what readers had, gaps that were announced, what its shim noted last."""
    left = read_end(directory / END_FILE_NAME) or {"streams": {}}
    found = dict(process.read_to)
    for name, number in STREAM_NUMBERS.items():
        noted = left["streams"].get(str(number), {}).get("offset", 0)
        found[name] = max(found.get(name, 0), process.gaps_told.get(name, (0, 0))[1], noted)
    return found
