"""What clients saw: every reply, event, gap, resync, exit and byte, as it came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from corral.core.items import Item
from corral_schemas.base import Message
from corral_schemas.errors import CorralError
from corral_schemas.exits import Exit, StreamEnd
from corral_testkit.sim.scenario import Step

Outcome = Message | CorralError


@dataclass
class Asked:
    """One command of one client, from its first sending to its outcome."""

    step: Step
    client: str
    sent_s: float
    deadline_s: float
    outcome: Outcome | None = None
    done_s: float = 0.0
    disturbed: bool = False
    """Its client was frozen meanwhile, so nothing is promised of when it ends."""


@dataclass
class Transfer:
    """A push, a look at bundles, a removal, or a copy of a file: several commands of one client."""

    step: Step
    guest: str
    client: str
    sent_s: float
    outcome: Any = None
    """What the library returned, or the CorralError; None: its client was killed first."""
    done_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.outcome is not None and not isinstance(self.outcome, CorralError)


@dataclass
class StreamSeen:
    """The items of one event stream, in order."""

    name: str
    kinds: frozenset[str] | None
    guests: frozenset[str] | None
    items: list[Item] = field(default_factory=list)
    client: str = ""
    opened_after: dict[str, tuple[str, int]] = field(default_factory=dict)
    """guest → (epoch, seq) it was opened after."""
    stood_at: dict[str, tuple[str, int]] = field(default_factory=dict)
    """guest → (epoch, seq) of its journal when the stream was live."""
    were_up: list[str] = field(default_factory=list)
    """Guests that every broker had registered then."""
    ended: bool = False
    failure: CorralError | None = None
    """What ended it once it stood."""


@dataclass
class Followed:
    """Somebody who reads or waits to the end of a process, however long it is silent."""

    guest: str
    container: str
    token: str
    client: str
    how: str
    began_s: float = 0.0
    came: list[tuple[str, int, float]] = field(default_factory=list)
    """(stream, end, when)"""
    bytes: int = 0
    exit: Exit | None = None
    finished_s: float = 0.0
    failure: CorralError | None = None
    failed_s: float = 0.0
    disturbed: bool = False
    """Its client was frozen meanwhile."""


@dataclass
class OutputSeen:
    """One reader of one process's output, from its first byte to its end."""

    guest: str
    container: str
    instance: str
    token: str
    client: str
    pieces: list[tuple[str, int, int, bytes | None, str]] = field(default_factory=list)
    """(stream, start, end, bytes or None for a gap, reason)"""
    ends: dict[str, StreamEnd] = field(default_factory=dict)
    exit: Exit | None = None
    began_s: float = 0.0
    finished_s: float = 0.0
    """When its end was told; 0: it was not."""
    failure: CorralError | None = None

    @property
    def finished(self) -> bool:
        return self.finished_s > 0


@dataclass
class RawSeen:
    """What a raw subscriber got of one stream: one message."""

    client: str
    instance: str
    stream: str
    offset: int
    data: bytes


@dataclass
class ExitSeen:
    """An exit, and by what it was seen."""

    where: str
    at_s: float
    epoch: str
    exit: Exit


class History:
    """Of one run."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.transfers: list[Transfer] = []
        self.streams: list[StreamSeen] = []
        self.outputs: list[OutputSeen] = []
        self.followed: list[Followed] = []
        self.raw: list[RawSeen] = []
        self.exits: dict[str, list[ExitSeen]] = defaultdict(list)  # process instance -> where it was seen
        self.mirrors: dict[str, dict[str, dict[str, str]]] = {}  # client -> guest -> container instance -> status, by list and follow
        self.places: Callable[[], dict[str, tuple[str, int]]] = dict  # guest -> where its journal stands on disk
        self.up: Callable[[], list[str]] = list  # guests that every broker has registered
        self.findings: list[str] = []
        """What was wrong already while it ran."""

    def exit_seen(self, instance: str, where: str, at_s: float, end: Exit | None, epoch: str = "") -> None:
        if end is not None and instance:
            self.exits[instance].append(ExitSeen(where, at_s, epoch, end))
