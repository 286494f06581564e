"""Commands that only ask, while they are under way: a repeat of a long poll joins it, and each has its answer before its deadline."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from corral_schemas.base import Message
from corral_schemas.frames import CommandHeader
from corral_schemas.queries import ReplayArgs, WaitArgs
from corral_schemas.stdio import ReadStdioArgs

EARLIER_S, EARLIER_SHARE = 0.5, 0.1
"""A long poll ends so much before its deadline, or by this share of the time left if that is less: nothing new is an answer too."""
_WAIT_FIELDS: dict[type[Message], str] = {ReadStdioArgs: "wait_ms", ReplayArgs: "wait_ms", WaitArgs: "timeout_ms"}


@dataclass(eq=False)
class Asked:
    """One question, and all copies of it that are to be answered."""

    args: Message
    deadline_s: float
    copies: list[tuple[Any, CommandHeader]]
    """(route, header)"""
    limit: asyncio.Timeout | None = None
    given_up: bool = False
    """By `cancel`: its time is over."""


class Polls:
    """Long polls by request id: one that comes again, perhaps by another broker, has one answer, and costs no second wait."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], Asked] = {}  # (request id, op): long polls
        self._all: dict[str, list[Asked]] = {}  # request id: everything that is asked

    def join(self, route: Any, header: CommandHeader, args: Message, deadline_s: float) -> bool:
        """Whether it is one of those under way: then it gets that one's answer."""
        asked = self._under_way.get((header.id, header.op))
        if asked is None or asked.given_up or asked.args != args or (asked.limit is not None and asked.limit.expired()):
            return False
        asked.copies.append((route, header))
        if deadline_s > asked.deadline_s:
            asked.deadline_s = deadline_s
            if asked.limit is not None:
                asked.limit.reschedule(deadline_s)
        return True

    def begin(self, route: Any, header: CommandHeader, args: Message, deadline_s: float) -> Asked:
        """A question of its own."""
        asked = Asked(args, deadline_s, [(route, header)])
        if type(args) in _WAIT_FIELDS:
            self._under_way[header.id, header.op] = asked
        self._all.setdefault(header.id, []).append(asked)
        return asked

    def give_up(self, request_id: str) -> Literal["", "cancelled", "too_late"]:
        """Ends the long polls of that id. `too_late`: it is under way, and no poll; empty: nothing of that id is under way."""
        found = self._all.get(request_id, [])
        polls = [asked for asked in found if type(asked.args) in _WAIT_FIELDS]
        for asked in polls:
            asked.given_up, asked.deadline_s = True, 0.0
            if asked.limit is not None and not asked.limit.expired():
                asked.limit.reschedule(asked.deadline_s)
        return "cancelled" if polls else "too_late" if found else ""

    def end(self, asked: Asked) -> None:
        """It has its answer: who repeats it now asks anew."""
        _, header = asked.copies[0]
        if self._under_way.get((header.id, header.op)) is asked:
            del self._under_way[header.id, header.op]
        self._all[header.id].remove(asked)
        if not self._all[header.id]:
            del self._all[header.id]


def in_time(args: Message, left_s: float) -> Message:
    """The same question, with a wait that ends before the deadline: a copy sent late, after a break, has less time than it asks for."""
    field = _WAIT_FIELDS.get(type(args))
    if field is None:
        return args
    most_ms = int(max(0.0, left_s - min(EARLIER_S, EARLIER_SHARE * left_s)) * 1000)
    return msgspec.structs.replace(args, **{field: most_ms}) if getattr(args, field) > most_ms else args
