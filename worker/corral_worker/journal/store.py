"""The journal on disk: SQLite in WAL mode behind one thread that commits in groups.

What comes while a commit is under way waits and goes with the next one, so the cost of a sync is shared by all who wait for it.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from corral_worker.journal.port import Statement
from corral_worker.journal.records import ContainerRecord, EventRecord, ProcessRecord, Record, RequestRecord

log = logging.getLogger(__name__)

Durability = Literal["power", "process"]
SCHEMA_VERSION = 1
RETRY_S = 0.2
JOURNAL_LOST_STATUS = 74
"""Exit status of a worker whose journal failed under it (EX_IOERR of sysexits.h)."""
_BALLAST_BYTES = 4 << 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, time_ns INTEGER NOT NULL,
    topic BLOB NOT NULL, header BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, recorded_ms INTEGER NOT NULL, done INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS containers (instance TEXT PRIMARY KEY, name TEXT NOT NULL, deleted_ns INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS processes (instance TEXT PRIMARY KEY, container TEXT NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS requests_by_age ON requests (recorded_ms);
CREATE INDEX IF NOT EXISTS containers_by_name ON containers (name, instance);
CREATE INDEX IF NOT EXISTS containers_by_deletion ON containers (deleted_ns) WHERE deleted_ns > 0;
CREATE INDEX IF NOT EXISTS processes_by_container ON processes (container);
"""
_INSERT_EVENT = "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_REQUEST = (  # a request written again keeps its rowid, and so its place: unfinished ones are gone on with as they came
    "INSERT INTO requests VALUES (?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET recorded_ms = excluded.recorded_ms, done = excluded.done, record = excluded.record"
)
_INSERT_CONTAINER = "INSERT OR REPLACE INTO containers VALUES (?, ?, ?, ?)"
_INSERT_PROCESS = "INSERT OR REPLACE INTO processes VALUES (?, ?, ?)"
_pack = msgspec.msgpack.encode


def statement_for(record: Record) -> Statement:
    """The SQL that stores one record."""
    match record:
        case EventRecord():
            row = (record.seq, record.kind, record.time_ns, record.topic, record.header, record.payload)
            return _INSERT_EVENT, row
        case RequestRecord():
            return _INSERT_REQUEST, (record.id, record.recorded_ms, int(record.done), _pack(record))
        case ContainerRecord():
            return _INSERT_CONTAINER, (record.instance, record.name, record.deleted_ns, _pack(record))
        case ProcessRecord():
            return _INSERT_PROCESS, (record.instance, record.container, _pack(record))


_INSERTS = frozenset({_INSERT_EVENT, _INSERT_REQUEST, _INSERT_CONTAINER, _INSERT_PROCESS})


def _without_repeats(batch: list[Statement]) -> list[Statement]:
    """Records written several times in one batch are stored once, as they were last: all become durable together anyway."""
    if not all(sql in _INSERTS for sql, _ in batch):
        return batch
    return [(sql, row) for (sql, _), row in {(sql, row[0]): row for sql, row in batch}.items()]


class JournalCorruptError(Exception):
    """The database cannot be read."""


class SqliteStore:
    """append (any thread) → on_durable(position) (from the store's thread) once that many statements are on disk.

    `durability` "power" syncs each commit; "process" leaves it to the kernel (survives a crash of Corral, not of the machine).
    """

    def __init__(self, path: Path, durability: Durability, on_durable: Callable[[int], None], on_full: Callable[[bool], None]) -> None:
        self._path = path
        self._on_durable = on_durable
        self._on_full = on_full
        self._condition = threading.Condition()
        self._queue: list[Statement] = []  # guarded by _condition
        self._closing = False  # guarded by _condition
        self._position = 0  # statements appended; guarded by _condition
        self._full = False  # store thread only
        self._read = self._open(durability)  # the owner's thread only
        self._write = self._open(durability)  # store thread only
        self._ballast = path.with_name("ballast")
        self._make_ballast()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def _open(self, durability: Durability) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'OFF'}")
            connection.execute("PRAGMA busy_timeout=10000")
            connection.execute("PRAGMA secure_delete=ON")  # the arguments of commands that are done hold environments
            connection.execute("PRAGMA cache_size=-1024")
            connection.execute("PRAGMA journal_size_limit=16777216")
            connection.executescript(_SCHEMA)
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check failed")
        except sqlite3.OperationalError:  # a full, failing or read-only disk, a lock: nothing is wrong with what is in it
            connection.close()
            raise
        except sqlite3.DatabaseError as why:
            connection.close()
            raise JournalCorruptError(f"{self._path}: {why}") from why
        return connection

    # -- writing ---------------------------------------------------------------------------------------------------------

    def append(self, statements: list[Statement]) -> int:
        """Queues statements; returns the position at which they are durable."""
        with self._condition:
            self._queue += statements
            self._position += len(statements)
            self._condition.notify()
            return self._position

    def _run(self) -> None:
        done = 0
        while True:
            with self._condition:
                if not self._queue and not self._closing:
                    self._condition.wait(RETRY_S if self._full else None)
                batch, self._queue = self._queue, []
                closing = self._closing
            if not batch:
                if closing:
                    return
                self._look_for_room()  # while new commands are refused there may be nothing to write that would show it
                continue
            try:
                self._commit_until_stored(_without_repeats(batch))
            except Exception:
                log.critical("journal: it can no longer be written; the worker ends, so that the next one can look at it", exc_info=True)
                os._exit(JOURNAL_LOST_STATUS)
            done += len(batch)
            self._on_durable(done)

    def _commit_until_stored(self, batch: list[Statement]) -> None:
        """Commits, and on a full disk gives up the ballast and then tries again for as long as it takes: nothing is dropped."""
        while True:
            try:
                self._commit(batch)
            except sqlite3.OperationalError as why:
                log.error("journal: commit of %d statements failed: %s; trying again", len(batch), why)
                if not self._full:
                    self._full = True
                    self._ballast.unlink(missing_ok=True)
                    self._on_full(True)
                with self._condition:
                    if self._closing:
                        return
                    self._condition.wait(RETRY_S)
            else:
                self._look_for_room()
                return

    def _look_for_room(self) -> None:
        """A full disk is one until the reserve fits again."""
        if self._full and self._make_ballast():
            self._full = False
            self._on_full(False)

    def _commit(self, batch: list[Statement]) -> None:
        execute = self._write.execute
        execute("BEGIN IMMEDIATE")
        try:
            for sql, row in batch:
                execute(sql, row)
            execute("COMMIT")
        except sqlite3.Error:
            if self._write.in_transaction:
                execute("ROLLBACK")
            raise

    def _make_ballast(self) -> bool:
        """Keeps a few MiB aside, so that exits and results still fit when the disk is full. False where there is no room."""
        try:
            with self._ballast.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
        except OSError as why:
            if not self._full:  # else it has been said
                log.warning("journal: no room for the reserve of %d bytes beside %s: %s", _BALLAST_BYTES, self._path, why)
            self._ballast.unlink(missing_ok=True)
            return False
        return True

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout=10)
        self._read.close()
        self._write.close()

    # -- reading (what is durable) ---------------------------------------------------------------------------------------

    def meta(self) -> dict[str, bytes]:
        return dict(self._read.execute("SELECT key, value FROM meta"))

    def find_request(self, request_id: str) -> RequestRecord | None:
        row = self._read.execute("SELECT record FROM requests WHERE id = ?", (request_id,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=RequestRecord)

    def unfinished_requests(self) -> list[RequestRecord]:
        rows = self._read.execute("SELECT record FROM requests WHERE done = 0 ORDER BY recorded_ms, rowid")
        return [msgspec.msgpack.decode(blob, type=RequestRecord) for (blob,) in rows]

    def last_recorded_ms(self) -> int:
        """Worker time of the newest request; 0 where there is none."""
        return int(self._read.execute("SELECT coalesce(max(recorded_ms), 0) FROM requests").fetchone()[0])

    def has_done_requests(self, before_ms: int) -> bool:
        """Whether there are any that were recorded before that worker time."""
        sql = "SELECT EXISTS (SELECT 1 FROM requests WHERE done = 1 AND recorded_ms < ?)"
        return bool(self._read.execute(sql, (before_ms,)).fetchone()[0])

    def live_containers(self) -> list[ContainerRecord]:
        rows = self._read.execute("SELECT record FROM containers WHERE deleted_ns = 0 ORDER BY instance")
        return [msgspec.msgpack.decode(blob, type=ContainerRecord) for (blob,) in rows]

    def deleted_containers(self, before_ns: int, limit: int) -> list[ContainerRecord]:
        """Containers deleted before that time, oldest first."""
        sql = "SELECT record FROM containers WHERE deleted_ns > 0 AND deleted_ns < ? ORDER BY deleted_ns LIMIT ?"
        return [msgspec.msgpack.decode(blob, type=ContainerRecord) for (blob,) in self._read.execute(sql, (before_ns, limit))]

    def known_containers(self, instances: Sequence[str]) -> set[str]:
        """Which of these the journal has, alive or deleted. A page of them at a time: SQL takes some hundred."""
        sql = f"SELECT instance FROM containers WHERE instance IN ({', '.join('?' * len(instances))})"
        return {instance for (instance,) in self._read.execute(sql, tuple(instances))}

    def newest_instance(self) -> str:
        """The newest container's, alive or deleted; "" where there is none."""
        return str(self._read.execute("SELECT coalesce(max(instance), '') FROM containers").fetchone()[0])

    def newest_container(self, name: str) -> ContainerRecord | None:
        sql = "SELECT record FROM containers WHERE name = ? ORDER BY instance DESC LIMIT 1"
        row = self._read.execute(sql, (name,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=ContainerRecord)

    def container(self, instance: str) -> ContainerRecord | None:
        row = self._read.execute("SELECT record FROM containers WHERE instance = ?", (instance,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=ContainerRecord)

    def processes(self, container: str) -> list[ProcessRecord]:
        rows = self._read.execute("SELECT record FROM processes WHERE container = ? ORDER BY instance", (container,))
        return [msgspec.msgpack.decode(blob, type=ProcessRecord) for (blob,) in rows]

    def last_seq(self) -> int:
        return int(self._read.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def first_seq(self) -> int:
        """Oldest event kept; 0 where there is none."""
        return int(self._read.execute("SELECT coalesce(min(seq), 0) FROM events").fetchone()[0])

    def last_seq_by_kind(self) -> dict[str, int]:
        return dict(self._read.execute("SELECT kind, max(seq) FROM events GROUP BY kind"))

    def event(self, seq: int) -> EventRecord | None:
        row = self._read.execute(f"SELECT {_EVENT_COLUMNS} FROM events WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else _event_of(row)

    def events_after(self, seq: int) -> Iterator[EventRecord]:
        """Events above seq in order; close the iterator when done with it."""
        for row in self._read.execute(f"SELECT {_EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (seq,)):
            yield _event_of(row)


_EVENT_COLUMNS = "seq, kind, time_ns, topic, header, payload"


def _event_of(row: tuple[Any, ...]) -> EventRecord:
    return EventRecord(seq=row[0], kind=row[1], time_ns=row[2], topic=row[3], header=row[4], payload=row[5])
