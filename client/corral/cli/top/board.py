"""What `corral top` knows: figures go in as they come, rates and rows come out. No I/O."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from corral_schemas.exits import Exit, describe

if TYPE_CHECKING:
    from corral_schemas.containers import ContainerState, ContainerStats
    from corral_schemas.queries import GuestInfo

Order = Literal["cpu", "memory", "output", "name"]
EXITS_KEPT = 50


@dataclass(frozen=True)
class ExitLine:
    """An exit, newest first in the board."""

    time_ns: int
    path: str
    text: str
    well: bool


@dataclass(frozen=True)
class Row:
    """A container: its state, and what it uses where that is known. Rates are per second; cpu in percent of one core."""

    path: str
    state: "ContainerState"
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    output_bytes_s: float | None = None
    output_bytes: int | None = None


@dataclass
class Board:
    """Everything shown."""

    guests: "list[GuestInfo]" = field(default_factory=list)
    trouble: str = ""
    """Why nothing new is known; empty while all is well."""
    silent: dict[str, str] = field(default_factory=dict)
    """Guests that did not answer, and why."""
    exits: deque[ExitLine] = field(default_factory=lambda: deque(maxlen=EXITS_KEPT))
    exits_well: int = 0
    exits_other: int = 0
    gaps: int = 0
    """Stretches of events that were missed."""
    events_s: dict[str, float] = field(default_factory=dict)
    """Guest → events a second between the last two ticks."""
    order: Order = "cpu"
    reverse: bool = False
    _states: "dict[str, ContainerState]" = field(default_factory=dict)
    _stats: "dict[str, tuple[ContainerStats | None, ContainerStats]]" = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _ticked_s: float = 0.0

    def event(self, guest: str, kind: str, path: str, time_ns: int, end: Exit | None) -> None:
        """One event; `end` with an exit."""
        self._counts[guest] += 1
        if kind == "exit" and end is not None:
            well = end.type == "exited" and end.code == 0
            self.exits_well += well
            self.exits_other += not well
            self.exits.appendleft(ExitLine(time_ns, path, describe(end), well))

    def containers(self, states: "list[ContainerState]") -> None:
        """All there are."""
        self._states = {f"{state.guest}/{state.id}": state for state in states}
        self._stats = {path: pair for path, pair in self._stats.items() if path in self._states}

    def used(self, path: str, stats: "ContainerStats") -> None:
        """A reading; rates are over the time since the one before."""
        former = self._stats.get(path)
        self._stats[path] = (former[1] if former else None, stats)

    def tick(self, now_s: float) -> None:
        """Rates of events are over the time since the last tick."""
        if self._ticked_s and now_s > self._ticked_s:
            self.events_s = {guest: count / (now_s - self._ticked_s) for guest, count in self._counts.items()}
        self._counts.clear()
        self._ticked_s = now_s

    def rows(self) -> list[Row]:
        """Those that run first, in the order asked for; what is not known last."""
        rows = [self._row(path, state) for path, state in sorted(self._states.items())]
        keys = {
            "cpu": lambda row: -(row.cpu_percent or 0.0),
            "memory": lambda row: -(row.memory_bytes or 0),
            "output": lambda row: -(row.output_bytes_s or 0.0),
            "name": lambda row: row.path,
        }
        rows.sort(key=keys[self.order], reverse=self.reverse)
        return sorted(rows, key=lambda row: row.state.status not in ("running", "paused"))

    @property
    def running(self) -> int:
        return sum(state.status in ("running", "paused") for state in self._states.values())

    @property
    def output_bytes_s(self) -> float:
        """Of all containers whose figures are read."""
        return sum(self._row(path, self._states[path]).output_bytes_s or 0.0 for path in self._stats)

    def _row(self, path: str, state: "ContainerState") -> Row:
        former, now = self._stats.get(path, (None, None))
        if now is None:
            return Row(path, state)
        written = now.stdout_bytes + now.stderr_bytes
        if former is None or now.time_ns <= former.time_ns:
            return Row(path, state, None, now.memory_bytes, None, written)
        elapsed_ns = now.time_ns - former.time_ns
        cpu = None if now.cpu_ns is None or former.cpu_ns is None else max(0.0, 100 * (now.cpu_ns - former.cpu_ns) / elapsed_ns)
        rate = max(0.0, (written - former.stdout_bytes - former.stderr_bytes) * 1e9 / elapsed_ns)
        return Row(path, state, cpu, now.memory_bytes, rate, written)
