"""What the worker is told of a process, each thing once and in its order: streams that end, the exit, that there is more to read."""

from __future__ import annotations

from collections.abc import Callable

from corral_worker.shim.base.light import Any, Protocol
from corral_worker.shim.base.loop import Loop
from corral_worker.shim.base.wire import Message
from corral_worker.shim.spool.writer import SpoolWriter

# A stream that ends is told of by itself only when its process does not end with it.
END_TOGETHER_S = 0.05


class NotifiedProcess(Protocol):
    """The process, as far as it is told of."""

    instance: str
    loop: Loop
    spool: SpoolWriter
    exit: dict[str, Any] | None
    is_drained: bool
    is_closed: bool

    def stream_numbers(self) -> list[int]:
        """Those it has."""

    def stream_states(self) -> dict[str, Any]:
        """How far each is."""

    def is_open(self, stream: int) -> bool:
        """More may come."""

    def write_end(self) -> None:
        """On disk before it is told."""


class Notifier:
    """Holds back what comes too early: nothing is told of a process before its create or exec was answered."""

    def __init__(self, process: NotifiedProcess, notify: Callable[[Message], None], send_droppable: Callable[[Message], None]) -> None:
        self.exit_told = False
        self._process, self._notify_worker, self._send_droppable = process, notify, send_droppable
        self._begun = False
        self._exit_held = False
        self._ended_early: set[int] = set()  # streams that ended, of which nobody was told
        self._armed: tuple[dict[int, int], bool] | None = None

    def begin(self) -> None:
        """Its create or exec was answered: from now on the worker may hear of it."""
        self._begun = True
        self._ends_later()
        self.exit()

    def hold_exit(self, held: bool) -> None:
        """While its start is being answered its exit waits, since that comes after."""
        self._exit_held = held
        self.exit()

    def exit(self) -> None:
        """Once it may be: what came of it, and how far its streams are."""
        end = self._process.exit
        if end is None or not self._process.is_drained or not self._begun or self._exit_held or self.exit_told:
            return
        self.exit_told = True
        self._ended_early.clear()
        kinds = {key: end[key] for key in ("type", "code", "signal", "core") if key in end}
        others = {key: value for key, value in end.items() if key not in kinds}
        self._notify({"t": "exit", "exit": kinds, **others, "streams": self._stream_ends()})

    def stream_ended(self, stream: int) -> None:
        """No byte of it will ever come again."""
        self._ended_early.add(stream)
        if self.exit_told:
            self._ends()
        else:
            self._ends_later()
        self.growth()

    def arm(self, after: dict[int, int], knows_exit: bool) -> None:
        """Tell once when there is more than ``after`` says, or a stream of it ended, or the process exited."""
        self._armed = (after, knows_exit)
        self.growth()

    def growth(self) -> None:
        """Something came: whoever waits for it is told."""
        if self._armed is None:
            return
        after, knows_exit = self._armed
        process, state = self._process, self._process.spool.state
        grew = any(state(stream).offset > offset or not process.is_open(stream) for stream, offset in after.items())
        if grew or (process.is_drained and not knows_exit):
            self._armed = None
            streams = {
                str(stream): {"offset": state(stream).offset, "open": process.is_open(stream)} for stream in process.stream_numbers()
            }
            self._send_droppable({"t": "grew", "process": process.instance, "streams": streams, "exited": process.is_drained})

    def blocked(self, since_ns: int | None) -> None:
        """It waits since then; None: it goes on."""
        self._notify({"t": "blocked", "since_ns": since_ns})

    def gap(self, stream: int, start: int, end: int, reason: str) -> None:
        """These bytes are not in the spool."""
        self._notify({"t": "gap", "stream": stream, "from": start, "to": end, "reason": reason})

    def _ends_later(self) -> None:
        if self._ended_early and self._begun and not self.exit_told:
            self._process.loop.later(END_TOGETHER_S, self._ends)

    def _ends(self) -> None:
        if self._process.is_closed or (self._process.exit is not None and not self.exit_told):  # the exit will tell
            return
        ended, self._ended_early = sorted(self._ended_early), set()
        if not ended:
            return
        self._process.write_end()
        for stream in ended:
            state = self._process.spool.state(stream)
            self._notify({"t": "stream_end", "stream": stream, "total": state.offset, "crc": state.crc})

    def _stream_ends(self) -> dict[str, Any]:
        ends: dict[str, Any] = {}
        for stream, state in self._process.stream_states().items():
            place = "offset" if state["open"] else "total"
            kind = "open" if state["open"] else "closed"
            ends[stream] = {"state": kind, place: state["offset"], "crc": state["crc"]}
        return ends

    def _notify(self, message: Message) -> None:
        self._notify_worker({"t": message["t"], "process": self._process.instance, **message})
