"""Reading of what processes wrote: the spool's readers, kept a while so that sequential reads go on where they were."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import cast

from corral_schemas.errors import error
from corral_schemas.stdio import Chunk, Gap, ReadStdioArgs, StreamName
from corral_worker.containers.guest import Guest
from corral_worker.journal.records import ProcessRecord
from corral_worker.shim.spool.reader import Gap as SpoolGap
from corral_worker.shim.spool.reader import SpoolReader

STREAM_NAMES: dict[int, StreamName] = {1: "stdout", 2: "stderr"}
STREAM_NUMBERS: dict[str, int] = {name: number for number, name in STREAM_NAMES.items()}
READERS_KEPT = 64
POWER_CUT, SHIM_DIED = "power_cut", "shim_died"
"""Reasons of gaps."""
LOST_WITH_GUEST, LOST_WITH_SHIM = "guest rebooted", "shim died"
"""Reasons of exits that are lost."""

Position = dict[int, int]
"""Stream number → offset."""


@dataclass
class Read:
    """What one read gave; `next` is where to go on."""

    next: Position
    chunks: list[Chunk] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


class Spools:
    """Readers by process and position: several readers of one process do not disturb each other."""

    def __init__(self, guest: Guest) -> None:
        self._guest, self._paths = guest, guest.settings.paths
        self._read_to: dict[str, tuple[ProcessRecord, Position]] = {}  # process instance → how far somebody had its output just now
        self._readers: OrderedDict[tuple[str, tuple[tuple[int, int], ...]], SpoolReader] = OrderedDict()

    def read(self, process: ProcessRecord, position: Position, max_bytes: int) -> Read:
        """What there is from a position on. Raises cursor_too_old when the output is no longer kept at all."""
        key = (process.instance, tuple(sorted(position.items())))
        torn = self._wrote_before_this_boot(process)  # then what is there is checked, byte by byte
        directory = self._paths.process(process.container, process.instance)
        reader = self._readers.pop(key, None) or SpoolReader(directory, verify=torn)
        try:
            items, after = reader.read(position, max_bytes)
        except FileNotFoundError:
            reader.close()
            raise error("cursor_too_old", f"the output of {process.container_name}/{process.id} is no longer kept") from None
        self._keep((process.instance, tuple(sorted(after.items()))), reader)
        found = Read(next=after)
        for item in items:
            name = STREAM_NAMES[item.stream]
            if isinstance(item, SpoolGap):
                reason = POWER_CUT if torn and item.reason == "missing" else item.reason
                found.gaps.append(Gap(stream=name, start=item.start, end=item.end, reason=reason))
            else:
                found.chunks.append(
                    Chunk(
                        stream=name,
                        offset=item.offset,
                        time_ns=item.time_ns,
                        crc_before=item.crc_before,
                        crc=item.crc,
                        data=cast(bytes, item.data),  # a view of what was read: packing it is the only copy
                    )
                )
        _tell_what_is_gone(process, found, bool(items), torn=torn)
        if process.exit is None and found.chunks:  # by bytes that were there: an asker may state any offset
            _, read_to = self._read_to.setdefault(process.instance, (process, {}))
            for chunk in found.chunks:
                number = STREAM_NUMBERS[chunk.stream]
                read_to[number] = max(read_to.get(number, 0), chunk.offset + len(chunk.data))
        return found

    def take_read_to(self) -> list[tuple[ProcessRecord, Position]]:
        """Processes that live and were read since the last call, and how far."""
        taken, self._read_to = list(self._read_to.values()), {}
        return taken

    def _wrote_before_this_boot(self, process: ProcessRecord) -> bool:
        return process.boot not in ("", self._guest.boot)

    def _keep(self, key: tuple[str, tuple[tuple[int, int], ...]], reader: SpoolReader) -> None:
        older = self._readers.pop(key, None)
        if older is not None:
            older.close()
        self._readers[key] = reader
        while len(self._readers) > READERS_KEPT:
            self._readers.popitem(last=False)[1].close()

    def first_position(self, process: ProcessRecord, args: ReadStdioArgs) -> Position:
        """Where a read begins: the offsets given, or what tail_lines or since_ns mean."""
        wanted = {1: args.stdout, 2: args.stderr}
        if args.tail_lines is None and args.since_ns is None:
            return {number: offset for number, offset in wanted.items() if offset is not None}
        reader = SpoolReader(self._paths.process(process.container, process.instance))
        streams = {number for number, offset in wanted.items() if offset is not None} or set(wanted)
        try:
            found = reader.offset_of_last_lines(streams, args.tail_lines) if args.tail_lines is not None else {}
            if args.since_ns is not None:
                since = reader.offset_at_time(args.since_ns)
                found = {number: max(found.get(number, 0), since.get(number, 0)) for number in streams}
        except FileNotFoundError:
            raise error("cursor_too_old", f"the output of {process.container_name}/{process.id} is no longer kept") from None
        finally:
            reader.close()
        return {number: found.get(number, 0) for number in streams}

    def end_position(self, process: ProcessRecord) -> Position:
        """Behind the last byte written so far."""
        reader = SpoolReader(self._paths.process(process.container, process.instance))
        try:
            return {number: end for number, (_, end) in reader.bounds().items()}
        except FileNotFoundError:
            return {}
        finally:
            reader.close()

    def drop(self, process_instance: str) -> None:
        """Lets go of the files of a process."""
        for key in [key for key in self._readers if key[0] == process_instance]:
            self._readers.pop(key).close()

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


def _tell_what_is_gone(process: ProcessRecord, found: Read, moved: bool, *, torn: bool) -> None:
    """Nothing more is there of a stream that is known to go on further: the rest is lost. One that was cut off says so at its end."""
    for number, offset in found.next.items():
        end = process.ends.get(STREAM_NAMES[number])
        if end is None or (offset < end.total and moved):
            continue
        if offset < end.total or end.cut:
            by_shim = end.cut and not (torn and process.exit is not None and process.exit.reason != LOST_WITH_SHIM)
            reason = SHIM_DIED if by_shim else POWER_CUT if torn else "missing"
            upto = max(offset, end.total)
            found.gaps.append(Gap(stream=STREAM_NAMES[number], start=offset, end=upto, reason=reason, open_ended=end.cut))
            found.next = {**found.next, number: upto}
