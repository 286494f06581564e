"""The journal as the rest of the worker uses it: append, wait until durable, publish in order, read again.

Nothing is announced before it is on disk: events go to `publish` in the order of their seq, after their commit.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Collection

import msgspec

from corral_schemas.base import Message
from corral_schemas.cursor import Place
from corral_schemas.events import EventHeader, JournalReset, mark_of
from corral_schemas.frames import decode_event_header, pack
from corral_schemas.limits import EVENT_BYTES_MAX
from corral_schemas.topics import event_topic
from corral_worker.journal.port import OpenStore, Statement
from corral_worker.journal.records import ContainerRecord, EventRecord, ProcessRecord, Record, RequestRecord
from corral_worker.journal.store import statement_for

Publish = Callable[[EventRecord], None]
EPOCHS_REMEMBERED = 64
"""Earlier epochs of this journal that are told from those of a history that it does not know."""
HOUR_MS, HOURS_NOTED = 3_600_000, 24 * 30
JOURNAL_MADE = "journal made"
"""Reason of a first epoch: nothing was there before."""
_SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class Journal:
    """One guest's journal. All methods belong to the event loop's thread."""

    def __init__(self, open_store: OpenStore, guest: str, worker: str, publish: Publish) -> None:
        self._loop = asyncio.get_running_loop()
        self._guest, self._worker, self._publish = guest, worker, publish
        self.full = False
        """The disk is full: nothing new may be begun."""
        self.on_full: Callable[[bool], None] = lambda full: None
        self._pending: list[Statement] = []  # appended in this turn of the loop, not yet with the store
        self._appended = 0  # statements handed to us so far
        self._durable = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()  # by position
        self._unpublished: deque[tuple[int, EventRecord]] = deque()  # (position, event)
        self._flush_scheduled = False
        self.store = open_store(self._committed_elsewhere, self._full_elsewhere)
        self._load()

    def _load(self) -> None:
        meta = self.store.meta()
        self.epoch = meta.get("epoch", b"").decode()
        self.past_epochs = msgspec.json.decode(meta.get("past_epochs", b"[]"), type=list[str])
        self.last_seq = self.durable_seq = self.store.last_seq()  # the newest event is never pruned
        self._last_mark = self.durable_mark = self.mark_at(self.last_seq)
        pruned = msgspec.json.decode(meta.get("last_seq_by_kind", b"{}"), type=dict[str, int])
        self.last_seq_by_kind = {**pruned, **self.store.last_seq_by_kind()}
        self._durable_seq_by_kind = dict(self.last_seq_by_kind)
        self.hours = msgspec.json.decode(meta.get("hours", b"[]"), type=list[tuple[int, int]])
        """(worker time in ms, last seq then), about once an hour: how old events are, whatever the wall clock does."""
        self._lost_ms = int(meta.get("lost_ms", b"-1"))  # worker time at which records were last found lost; -1: never
        self.generation = int(meta.get("generation", b"0")) + 1
        self.boot_id = meta.get("boot_id", b"").decode()
        self.guest_recorded = meta.get("guest", b"").decode()
        # one that was killed has not said when: its last request did, and deadlines go on from there
        self._worker_ms_base = max(int(meta.get("worker_ms", b"0")), self.store.last_recorded_ms())
        self._started_s = time.monotonic()
        self.set_meta("generation", str(self.generation))

    def outrank(self, generation: int) -> None:
        """Shims have heard this generation: ours is to be higher."""
        self.generation = max(self.generation, generation + 1)
        self.set_meta("generation", str(self.generation))

    # -- time that only passes while a worker runs: retention of requests counts it, whatever the wall clock does -----------

    def worker_ms(self) -> int:
        return self._worker_ms_base + int((time.monotonic() - self._started_s) * 1000)

    def note_hour(self) -> None:
        """Notes the place at this worker time, for `seq_before`, where the last note is an hour old."""
        now_ms = self.worker_ms()
        if not self.hours or now_ms - self.hours[-1][0] >= HOUR_MS:
            self.hours = [*self.hours, (now_ms, self.last_seq)][-HOURS_NOTED:]
            self.set_meta("hours", msgspec.json.encode(self.hours).decode())

    def seq_before(self, age_s: float) -> int:
        """The newest seq that is known to be older than that, in worker time; 0 where none is."""
        then_ms = self.worker_ms() - int(age_s * 1000)
        return max((seq for at_ms, seq in self.hours if at_ms <= then_ms), default=0)

    # -- appending -----------------------------------------------------------------------------------------------------------

    def save(self, *records: Record) -> None:
        """Appends records; they become durable together with all else appended in this turn of the loop."""
        self._append([statement_for(record) for record in records])

    def set_meta(self, key: str, value: str) -> None:
        self._append([(_SET_META, (key, value.encode()))])

    def execute(self, sql: str, row: tuple[object, ...] = ()) -> None:
        """Appends a clean-up statement (retention)."""
        self._append([(sql, row)])

    def event(
        self, kind: str, payload: Message, container: ContainerRecord | None = None, process: ProcessRecord | None = None
    ) -> EventRecord:
        """Records an event with the next seq; it is published once durable."""
        header = EventHeader(
            guest=self._guest,
            epoch=self.epoch,
            seq=self.last_seq + 1,
            prev=self.last_seq_by_kind.get(kind, 0),
            worker=self._worker,
            time_ns=time.time_ns(),
            kind=kind,
            container=container.name if container else "",
            instance=container.instance if container else "",
            process=process.id if process else "",
            process_instance=process.instance if process else "",
        )
        body = pack(payload)
        if len(body) > EVENT_BYTES_MAX:
            raise ValueError(f"{kind} event of {len(body)} bytes; the limit is {EVENT_BYTES_MAX}")
        topic = event_topic(self._guest, kind, header.container, header.process)
        record = EventRecord(
            seq=header.seq, kind=kind, time_ns=header.time_ns, topic=topic, header=pack(header), payload=body, mark=mark_of(header)
        )
        self.last_seq, self._last_mark = header.seq, record.mark
        self.last_seq_by_kind[kind] = header.seq
        self._append([statement_for(record)])
        self._unpublished.append((self._appended, record))
        return record

    def _append(self, statements: list[Statement]) -> None:
        self._pending += statements
        self._appended += len(statements)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            # a turn later: what a command's handler appends in its first step goes with its intent in one commit
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        batch, self._pending = self._pending, []
        self.store.append(batch)

    # -- durability ------------------------------------------------------------------------------------------------------------

    def durable(self) -> "asyncio.Future[None]":
        """Done once all appended so far is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._durable >= self._appended:
            future.set_result(None)
        else:
            self._waiters.append((self._appended, future))
        return future

    def _committed_elsewhere(self, position: int) -> None:
        self._loop.call_soon_threadsafe(self._committed, position)

    def _full_elsewhere(self, full: bool) -> None:
        self._loop.call_soon_threadsafe(self._set_full, full)

    def _set_full(self, full: bool) -> None:
        self.full = full
        self.on_full(full)

    def _committed(self, position: int) -> None:
        self._durable = position
        while self._unpublished and self._unpublished[0][0] <= position:
            _, record = self._unpublished.popleft()
            self.durable_seq = self._durable_seq_by_kind[record.kind] = record.seq
            self.durable_mark = record.mark
            self._publish(record)
        while self._waiters and self._waiters[0][0] <= position:
            _, future = self._waiters.popleft()
            if not future.done():
                future.set_result(None)

    # -- places ----------------------------------------------------------------------------------------------------------------

    def place(self) -> Place:
        """The place after everything appended so far (await durable() before telling anybody)."""
        return Place(epoch=self.epoch, seq=self.last_seq, mark=self._last_mark)

    def durable_place(self) -> Place:
        """The place after everything that is on disk."""
        return Place(epoch=self.epoch, seq=self.durable_seq, mark=self.durable_mark)

    def mark_at(self, seq: int) -> int:
        """The mark of a durable event; 0 where it is not (or no longer) in the journal."""
        record = self.store.event(seq)
        return 0 if record is None else mark_of(decode_event_header(record.header))

    def durable_seq_by_kind(self) -> dict[str, int]:
        """Kind → newest durable seq: what a beacon may tell."""
        return dict(self._durable_seq_by_kind)

    def remember_epoch(self, epoch: str) -> None:
        """This epoch came before the present one: whoever still knows it has not seen the future."""
        if epoch and epoch not in self.past_epochs:
            self.past_epochs = [*self.past_epochs, epoch][-EPOCHS_REMEMBERED:]
            self.set_meta("past_epochs", msgspec.json.encode(self.past_epochs).decode())

    def may_have_forgotten(self, age_ms: int) -> bool:
        """Whether what is that old may have been recorded before records were lost."""
        return self._lost_ms >= 0 and age_ms > self.worker_ms() - self._lost_ms

    def new_epoch(self, reason: str) -> None:
        """Begins a new epoch: earlier events are forgotten, seq begins again, journal_reset is the first event."""
        reset = JournalReset(reason=reason, previous_epoch=self.epoch, previous_seq=self.last_seq)
        self.remember_epoch(self.epoch)
        self.epoch = os.urandom(8).hex()
        self.last_seq = self.durable_seq = self._last_mark = self.durable_mark = 0
        self.last_seq_by_kind.clear()
        self._durable_seq_by_kind.clear()
        self._unpublished.clear()
        self.execute("DELETE FROM events")
        self.set_meta("epoch", self.epoch)
        self.set_meta("last_seq_by_kind", "{}")
        self.hours.clear()
        self.set_meta("hours", "[]")
        if reason != JOURNAL_MADE:
            self._lost_ms = self.worker_ms()
            self.set_meta("lost_ms", str(self._lost_ms))
        self.event("journal_reset", reset)

    # -- reading -----------------------------------------------------------------------------------------------------------------

    def events_after(self, seq: int, kinds: Collection[str], limit: int, bytes_max: int) -> tuple[list[EventRecord], int]:
        """Durable events above seq, and the seq up to which was looked."""
        found: list[EventRecord] = []
        size, upto = 0, seq
        for record in self.store.events_after(seq):
            if record.seq > self.durable_seq:
                break
            upto = record.seq
            if kinds and record.kind not in kinds:
                continue
            found.append(record)
            size += len(record.header) + len(record.payload)
            if len(found) >= limit or size >= bytes_max:
                break
        return found, upto

    def find_request(self, request_id: str) -> RequestRecord | None:
        return self.store.find_request(request_id)

    def close(self) -> None:
        """Writes the worker time and ends the store; everything appended is durable afterwards."""
        self.set_meta("worker_ms", str(self.worker_ms()))
        self._flush()
        self.store.close()
