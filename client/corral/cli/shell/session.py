"""From a command's body to a client: one event loop, one client, and the same act on each of several things."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from corral.cli.text.failures import FAILED, NoBroker, hint_of, say
from corral.cli.text.progress import Patience, waiting

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.text.targets import Target

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0
AT_ONCE_MAX = 32
"""Targets acted on at the same time."""


def with_client(broker: str | None, body: "Callable[[AsyncClient], Awaitable[T]]", *, timeout_s: float = 30.0) -> T:
    """Runs `body` with an open client. Raises NoBroker where none is named or none answers within CONNECT_TIMEOUT_S."""
    return asyncio.run(_with_client(broker, body, timeout_s))


async def _with_client(broker: str | None, body: "Callable[[AsyncClient], Awaitable[T]]", timeout_s: float) -> T:
    client = await opened(broker, timeout_s=timeout_s)
    try:
        return await body(client)
    finally:
        await client.close()


async def opened(broker: str | None, *, timeout_s: float = 30.0, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> "AsyncClient":
    """An open client, to be closed by the caller. Raises NoBroker."""
    from corral import AsyncClient, RetryError
    from corral_schemas.memory import keep_large_blocks

    keep_large_blocks()
    try:
        client = AsyncClient(broker, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s)
        async with waiting("waiting for the broker"):
            return await client.__aenter__()
    except RetryError as why:
        raise NoBroker(why.message) from why


async def each(targets: "Sequence[Target]", act: "Callable[[Target], Awaitable[str | None]]", *, doing: str) -> int:
    """Does the same to each target, AT_ONCE_MAX at a time, and prints what `act` gives in the order of the targets.

    A failure is said under the target's name and does not stop the others; the status is 1 then. doing: what is shown to who waits.
    """
    import click

    gate = asyncio.Semaphore(AT_ONCE_MAX)

    async def gated(target: "Target") -> str:
        async with gate:
            return await act(target) or ""

    tasks = [asyncio.create_task(gated(target)) for target in targets]

    def standing() -> str:
        left = [target.text for target, task in zip(targets, tasks, strict=True) if not task.done()]
        return f"{doing}: {len(targets) - len(left)} of {len(targets)}, waiting for {', '.join(left)}"

    try:
        async with waiting(standing) as patience:
            failed = 0
            for target, task in zip(targets, tasks, strict=True):
                line = await _line_or_failure(target, task, patience, alone=len(targets) == 1)
                failed += line is None
                if line:
                    click.echo(line)
            return FAILED if failed else 0
    finally:
        for task in tasks:
            task.cancel()


async def _line_or_failure(target: "Target", task: "asyncio.Task[str]", patience: Patience, *, alone: bool) -> str | None:
    from corral import CorralError

    await asyncio.wait({task})
    patience.hide()
    try:
        return task.result()
    except CorralError as failure:
        say(str(failure) if alone else f"{target.text}: {failure}", hint=hint_of(failure))
        return None
