"""The same act in many guests, so many at a time, each outcome as it comes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, cast

from corral.connection import Connection
from corral.guest import Guest
from corral.plain_text import count_text
from corral.selectors import Selector, parse_selector
from corral.timeouts import checked_s
from corral_schemas.base import Message
from corral_schemas.errors import CorralError, error
from corral_schemas.queries import GuestInfo, GuestsReply, Nothing

T = TypeVar("T")
WINDOW_DEFAULT = 16

Command = tuple[str, Message]
"""An op and its arguments, as for AsyncClient.call."""
Outcome = Literal["ok", "failed", "timeout", "unreachable", "unknown"]


@dataclass(frozen=True, slots=True)
class Mapped(Generic[T]):
    """The outcome of one guest."""

    guest: str
    outcome: Outcome
    """ok; failed, timeout; unreachable (it did not run); unknown (it may have run)."""
    value: T | None = None
    """With ok: what the function gave, or the command's reply."""
    error: CorralError | None = None
    """With anything else."""

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"


async def fleet_map(
    connection: Connection,
    select: str | Selector,
    act: Callable[[Guest], Awaitable[T]] | Command,
    *,
    window: int | str = WINDOW_DEFAULT,
    timeout_s: float | None = None,
) -> AsyncIterator[Mapped[T]]:
    """See AsyncClient.map."""
    checked_s(timeout_s)
    selector = parse_selector(select) if isinstance(select, str) else select
    names = [info.guest for info in meant(selector, (await connection.ask("", "guests", Nothing(), GuestsReply)).guests)]
    gate = asyncio.Semaphore(window_of(window, len(names)))

    async def one(name: str) -> Mapped[T]:
        async with gate:
            return await _act(connection, name, act, timeout_s)

    tasks = [asyncio.create_task(one(name)) for name in names]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def meant(selector: Selector, guests: list[GuestInfo]) -> list[GuestInfo]:
    """The guests selected, up or down. Raises guest_unreachable for a name that is not there, and where none is meant."""
    for name, nearest in selector.unknown(guests).items():
        raise error("guest_unreachable", f"there is no guest {name}", guest=name, nearest=nearest)
    found = selector.select(guests)
    if not found:
        raise error("guest_unreachable", f"{selector.text!r} selects none of {count_text(len(guests), 'guest')}", selector=selector.text)
    return found


def window_of(window: int | str, targets: int) -> int:
    """N, or `N%` of the targets, at least 1. Raises bad_request."""
    from corral.batch.plan import parse_window

    try:
        return parse_window(window).of(targets)
    except ValueError as why:
        raise error("bad_request", f"window: {why}") from why


def outcome_of(failure: CorralError) -> Outcome:
    """How a target ended whose command raised this: unreachable is certain not to have run, unknown is not."""
    if failure.code == "guest_unreachable":
        return "unknown" if failure.details.get("sent") else "unreachable"
    if failure.code == "outcome_unknown":
        return "unknown"
    return "timeout" if failure.code in ("deadline_exceeded", "wait_timeout") else "failed"


async def _act(connection: Connection, name: str, act: Callable[[Guest], Awaitable[T]] | Command, timeout_s: float | None) -> Mapped[T]:
    try:
        async with asyncio.timeout(timeout_s):
            if isinstance(act, tuple):
                op, args = act
                # A command's value is its reply: whoever gives a command has T = Message.
                return Mapped(name, "ok", cast(T, await connection.call(name, op, args, timeout_s=timeout_s)))
            return Mapped(name, "ok", await act(Guest(connection, name)))
    except CorralError as why:
        return Mapped(name, outcome_of(why), error=why)
    except TimeoutError:
        return Mapped(name, "timeout", error=error("deadline_exceeded", f"not done after {timeout_s} s", guest=name))
