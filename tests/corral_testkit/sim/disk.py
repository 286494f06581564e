"""The journal's storage on a simulated disk: real SQL in memory, commits that take their time, and what a crash leaves of them."""

from __future__ import annotations

import contextvars
import random
import sqlite3
from collections.abc import Callable

from corral_testkit.sim.process import Process
from corral_worker.journal.port import Statement
from corral_worker.journal.store import _SCHEMA, RETRY_S, SqliteStore

CRASH_COMMIT_S = 0.03
"""How much longer a write takes during which the machine or the worker ends: what was told too early arrives first."""


class Disk:
    """One guest's. It outlives workers; what is not committed is not on it."""

    def __init__(self, randomness: random.Random) -> None:
        self.randomness = randomness
        self.full = self.was_full = False
        self.slow_s = 0.0
        self.database = _new_database()
        self.snapshot: bytes | None = None
        self._crash: tuple[str, Callable[[], None]] | None = None  # (what the write is of, what happens then)

    def crash_at(self, what: str, crash: Callable[[], None]) -> None:
        """In the middle of the next write that holds an event of this kind, or any change of this table."""
        self._crash = (what, crash)

    def disarm(self) -> None:
        self._crash = None

    def take_crash(self, batch: list[Statement]) -> Callable[[], None] | None:
        """What is to happen during this write."""
        if self._crash is None or not any(self._crash[0] in (sql.split()[4], row[1]) for sql, row in batch if sql.startswith("INSERT")):
            return None
        _, crash = self._crash
        self._crash = None
        return crash

    def take_snapshot(self) -> None:
        self.snapshot = self.database.serialize()

    def rewind(self) -> None:
        """Back to the snapshot."""
        assert self.snapshot is not None
        self.database = _new_database()
        self.database.deserialize(self.snapshot)

    def snapshot_place(self) -> tuple[str, int]:
        """Epoch and last seq of the snapshot."""
        assert self.snapshot is not None
        database = sqlite3.connect(":memory:")
        database.deserialize(self.snapshot)
        place = place_of(database)
        database.close()
        return place

    def lose_journal(self) -> None:
        self.database = _new_database()

    def commit_s(self) -> float:
        return 0.000_3 + self.randomness.random() * 0.003 + self.slow_s * self.randomness.random()


def place_of(database: sqlite3.Connection) -> tuple[str, int]:
    """Epoch and last seq of a journal."""
    epoch = database.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    (seq,) = database.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
    return (epoch[0].decode() if epoch else "", seq)


def _new_database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=64)
    database.executescript(_SCHEMA)
    return database


class SimStore(SqliteStore):
    """The store of one worker process: SQL, schema and reads are the real ones, the thread and its syncs are not."""

    def __init__(self, disk: Disk, process: Process, on_durable: Callable[[int], None], on_full: Callable[[bool], None]) -> None:
        self._disk, self._process = disk, process
        self._on_durable, self._on_full = on_durable, on_full
        self._queue: list[Statement] = []
        self._position = self._done = 0
        self._full = False
        self._committing: list[Statement] = []
        self._closed = False
        self._read = self._write = disk.database
        process.on_death.append(self._died)

    def append(self, statements: list[Statement]) -> int:
        self._queue += statements
        self._position += len(statements)
        self._begin()
        return self._position

    def _begin(self) -> None:
        if self._committing or not self._queue or self._closed:
            return
        self._committing, self._queue = self._queue, []
        delay_s = self._disk.commit_s()
        crash = self._disk.take_crash(self._committing)
        if crash is not None:
            delay_s += CRASH_COMMIT_S
            self._process.loop.call_later(delay_s * self._disk.randomness.random(), crash, context=contextvars.Context())
        if self._disk.full and not self._full:  # the commit fails, the reserve is given up, it is tried again
            self._full = True
            self._on_full(True)
            delay_s += RETRY_S
        self._process.call_later(delay_s, self._end)

    def _end(self) -> None:
        if self._closed:
            return
        self._apply(self._committing)
        self._done += len(self._committing)
        self._committing = []
        if self._full and not self._disk.full:
            self._full = False
            self._on_full(False)
        # the commit is on disk; that it is takes a moment to be known
        self._process.call_later(self._disk.randomness.random() * 0.000_3, self._on_durable, self._done)
        self._begin()

    def _apply(self, batch: list[Statement]) -> None:
        self._commit(batch)

    def _died(self) -> None:
        """A commit under way may have reached the disk; the rest never does."""
        if not self._closed and self._committing and self._disk.randomness.random() < 0.5:
            self._apply(self._committing)
        self._closed = True

    def close(self) -> None:
        if not self._closed:
            self._apply(self._committing + self._queue)
            self._closed = True
