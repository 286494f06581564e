"""A guest inside a FakeBroker: a journal that can lose its messages, and one process whose output a test writes."""

import time
import zlib
from collections.abc import Callable

from msgspec.structs import replace

from corral_schemas.base import Message
from corral_schemas.containers import ContainerState
from corral_schemas.cursor import Place
from corral_schemas.errors import error
from corral_schemas.events import Beacon, EventHeader
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.frames import pack
from corral_schemas.queries import GuestInfo, InfoReply, ListReply, ReplayArgs, ReplayReply, WaitArgs, WaitReply
from corral_schemas.stdio import Chunk, Gap, ReadStdioArgs, ReadStdioReply, StreamName
from corral_testkit.fake_broker import INSTANCE, Call, FakeBroker, Outcome

CHUNK_BYTES = 64 << 10
CONTAINER_INSTANCE = "1" * 26


class FakeGuest:
    """Registers itself with the broker. Everything runs in the broker's thread (use `broker.do`, or the methods marked so)."""

    def __init__(self, broker: FakeBroker, name: str, epoch: str = "e1") -> None:
        self.broker, self.name = broker, name
        self.journal: list[tuple[EventHeader, Message]] = []
        self.trimmed = 0
        self.containers: list[ContainerState] = []
        self.streams: dict[StreamName, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.order: list[tuple[StreamName, int, int]] = []  # stream, start, end as they were written
        self.kept_from: dict[StreamName, int] = {"stdout": 0, "stderr": 0}
        self.ended: set[StreamName] = set()
        self.exit: Exit | None = None
        self.parked: list[tuple[Call, float, Callable[[Call], Outcome]]] = []
        self.move_to_epoch(epoch)
        for op in ("replay", "list", "info", "read_stdio", "wait"):
            broker.guest_handlers[name, op] = getattr(self, "_" + op)
        broker.ticks.append(self._unpark)

    def move_to_epoch(self, epoch: str) -> None:
        """An empty journal of a new epoch."""
        self.epoch = epoch
        self.journal.clear()
        self._note()

    def record(self, kind: str, payload: Message, *, publish: bool = True, container: str = "") -> EventHeader:
        """One more event of the journal; without `publish` it is lost on the way."""
        prev = next((header.seq for header, _ in reversed(self.journal) if header.kind == kind), 0)
        seq = self.journal[-1][0].seq + 1 if self.journal else self.trimmed + 1
        header = EventHeader(
            guest=self.name, epoch=self.epoch, seq=seq, prev=prev, worker=INSTANCE, time_ns=time.time_ns(), kind=kind, container=container
        )
        self.journal.append((header, payload))
        self._note()
        if publish:
            self.broker.publish(header, payload)
        return header

    def beacon(self) -> None:
        """A heartbeat."""
        by_kind = {header.kind: header.seq for header, _ in self.journal}
        header = EventHeader(
            guest=self.name, epoch=self.epoch, seq=self.last_seq, prev=0, worker=INSTANCE, time_ns=time.time_ns(), kind="beacon"
        )
        self.broker.publish(header, Beacon(last_seq_by_kind=by_kind))

    def trim(self, upto: int) -> None:
        """Events up to there are no longer kept."""
        self.trimmed = upto
        self.journal = [(header, payload) for header, payload in self.journal if header.seq > upto]

    def write(self, stream: StreamName, data: bytes) -> "FakeGuest":
        """The process writes."""
        start = len(self.streams[stream])
        self.streams[stream] += data
        self.order.append((stream, start, start + len(data)))
        self._unpark()
        return self

    def end(self, code: int = 0) -> "FakeGuest":
        """The process closes its streams and exits."""
        self.ended |= {"stdout", "stderr"}
        self.exit = Exit(type="exited", code=code, streams={name: self._end_of(name) for name in self.streams})
        self._unpark()
        return self

    @property
    def last_seq(self) -> int:
        return self.journal[-1][0].seq if self.journal else self.trimmed

    def _note(self) -> None:
        known = self.broker.guests.get(self.name)
        self.broker.guests[self.name] = GuestInfo(
            guest=self.name, up=True, worker=INSTANCE, epoch=self.epoch, seq=self.last_seq, labels=known.labels if known else {}
        )

    def _end_of(self, stream: StreamName) -> StreamEnd:
        data = bytes(self.streams[stream])
        return StreamEnd(state="closed", total=len(data), crc=zlib.crc32(data))

    def _park(self, call: Call, wait_ms: int, handler: Callable[[Call], Outcome]) -> None:
        self.parked.append((call, time.monotonic() + wait_ms / 1000, handler))

    def _unpark(self) -> None:
        parked, self.parked = self.parked, []
        for call, until_s, handler in parked:
            outcome = handler(call) if time.monotonic() < until_s else handler(Call(call.identity, call.header, _impatient(call.args), 0))
            if outcome is not None:
                self.broker.answer(call, outcome)
            elif self.parked and self.parked[-1][0] is call:
                self.parked[-1] = (call, until_s, handler)

    def _info(self, call: Call) -> Outcome:
        return InfoReply(kind="worker", version="0", protocol=1, instance=INSTANCE, guest=self.name, epoch=self.epoch, seq=self.last_seq)

    def _list(self, call: Call) -> Outcome:
        return ListReply(containers=self.containers, place=Place(epoch=self.epoch, seq=self.last_seq))

    def _replay(self, call: Call) -> Outcome:
        args = call.args
        assert isinstance(args, ReplayArgs)
        if (args.epoch and args.epoch != self.epoch) or args.after < self.trimmed or args.after > self.last_seq:
            return error("cursor_too_old", f"kept here: epoch {self.epoch} after {self.trimmed}")
        due = [(header, payload) for header, payload in self.journal if header.seq > args.after]
        upto = due[: args.limit][-1][0].seq if due else args.after
        chosen = [(header, payload) for header, payload in due[: args.limit] if not args.kinds or header.kind in args.kinds]
        events = [(pack(header), pack(payload)) for header, payload in chosen]
        return ReplayReply(epoch=self.epoch, events=events, upto=upto, last_seq=self.last_seq)

    def _wait(self, call: Call) -> Outcome:
        args = call.args
        assert isinstance(args, WaitArgs)
        if self.exit is not None:
            return WaitReply(exit=self.exit, process_instance=INSTANCE)
        if args.timeout_ms == 0:
            return error("wait_timeout", "not yet")
        self._park(call, args.timeout_ms, self._wait)
        return None

    def _read_stdio(self, call: Call) -> Outcome:
        args = call.args
        assert isinstance(args, ReadStdioArgs)
        wanted: dict[StreamName, int] = {}
        for name in self.streams:
            offset: int | None = getattr(args, name)
            if offset is not None:
                wanted[name] = self._tail(name, args.tail_lines) if args.tail_lines is not None else offset
        chunks, gaps, after = self._pieces(wanted, args.max_bytes)
        ends = {name: self._end_of(name) for name in wanted if name in self.ended}
        if args.wait_ms and not chunks and not gaps and not ends and self.exit is None:
            self._park(call, args.wait_ms, self._read_stdio)
            return None
        return ReadStdioReply(
            process_instance=INSTANCE,
            instance=CONTAINER_INSTANCE,
            chunks=chunks,
            gaps=gaps,
            next={str(name): offset for name, offset in after.items()},
            ends={str(name): end for name, end in ends.items()},
            exit=self.exit,
        )

    def _tail(self, stream: StreamName, lines: int) -> int:
        kept = bytes(self.streams[stream]).splitlines(keepends=True)
        return len(self.streams[stream]) - sum(len(line) for line in kept[len(kept) - min(lines, len(kept)) :])

    def _pieces(self, wanted: dict[StreamName, int], room: int) -> tuple[list[Chunk], list[Gap], dict[StreamName, int]]:
        after, chunks, gaps = dict(wanted), [], []
        for name, offset in wanted.items():
            if offset < self.kept_from[name]:
                gaps.append(Gap(stream=name, start=offset, end=self.kept_from[name], reason="cap"))
                after[name] = self.kept_from[name]
        for name, start, end in self.order:
            while name in after and room and start <= after[name] < end:
                upto = min(end, after[name] + CHUNK_BYTES, after[name] + room)
                chunks.append(self._chunk(name, after[name], upto))
                room -= upto - after[name]
                after[name] = upto
        return chunks, gaps, after

    def _chunk(self, stream: StreamName, start: int, end: int) -> Chunk:
        whole = memoryview(self.streams[stream])
        before = zlib.crc32(whole[:start])
        data = bytes(whole[start:end])
        whole.release()
        return Chunk(stream=stream, offset=start, time_ns=1, crc_before=before, crc=zlib.crc32(data, before), data=data)


def _impatient(args: Message) -> Message:
    """The same question without waiting."""
    return replace(args, **({"timeout_ms": 0} if isinstance(args, WaitArgs) else {"wait_ms": 0}))
