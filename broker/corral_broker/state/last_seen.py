"""The last-seen file: the highest place heard of each guest, by which a restarted broker knows its guests and rewound journals."""

import logging
import time
from pathlib import Path

import msgspec

from corral_broker.state.whole_file import write_whole
from corral_schemas.cursor import Place, PlaceRow, row_of
from corral_schemas.errors import CorralError
from corral_schemas.names import check_guest_name

WRITE_INTERVAL_S = 1.0
WRITE_SHARE = 50
"""At least this many times its own duration passes between two writes: at most 2 % of the time goes into them."""
FILE_NAME = "last-seen.json"
FORMAT = 1

log = logging.getLogger(__name__)


class _File(msgspec.Struct):
    format: int
    guests: dict[str, PlaceRow]


class LastSeenFile:
    """Written whole, beside itself, and renamed. Nothing is lost with it that a guest does not say again."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory (0700) if it is missing. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / FILE_NAME
        self.next_write_s = 0.0
        """When the file may be written again."""

    @property
    def written_ns(self) -> int:
        """When it was written last; 0 where it was not."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def read(self) -> list[tuple[str, Place]]:
        """Every guest's place; a file that cannot be read is said in the log and taken as empty."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_File)
            for name in content.guests:
                check_guest_name(name)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, CorralError) as why:
            log.warning("last_seen_unreadable: %s: %s; starting without it", self._path, why)
            return []
        if content.format != FORMAT:
            log.warning("last_seen_unreadable: %s: format %d, known here is %d; starting without it", self._path, content.format, FORMAT)
            return []
        return [(name, row.place()) for name, row in content.guests.items()]

    def write(self, places: dict[str, Place], now_s: float) -> None:
        """Replaces the file. A failure is said in the log and nothing more: the next write may do."""
        started_s = time.monotonic()
        content = _File(format=FORMAT, guests={name: row_of(place) for name, place in places.items()})
        try:
            write_whole(self._path, msgspec.json.encode(content))
        except OSError as why:
            log.warning("last_seen_unwritable: %s: %s", self._path, why)
        self.next_write_s = now_s + max(WRITE_INTERVAL_S, WRITE_SHARE * (time.monotonic() - started_s))
