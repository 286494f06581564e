"""The end of `corral up`: no container of its guests is left."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral import CorralError, NotFoundError
from corral.cli.shell.session import AT_ONCE_MAX
from corral.cli.text.failures import say

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral_schemas.containers import ContainerState

ROUNDS_MAX = 3
"""Whoever still makes containers meanwhile gets so many rounds."""


async def clear_containers(client: "AsyncClient", guests: Sequence[str], grace_s: float, hurry: asyncio.Event) -> int:
    """Stops every container of the guests (SIGTERM, SIGKILL after `grace_s` or as soon as `hurry` is set) and deletes it.

    Returns how many there were. What could not be ended is said on stderr.
    """
    gate = asyncio.Semaphore(AT_ONCE_MAX)
    cleared = 0

    async def clear(state: "ContainerState") -> None:
        async with gate:
            await _clear_one(client, state, grace_s, hurry)

    for _ in range(ROUNDS_MAX):
        fleet = await client.list(guests)
        for guest, why in fleet.silent.items():
            say(f"guest {guest} does not answer; its containers are left as they are: {why}")
        if not fleet.containers:
            break
        cleared = max(cleared, len(fleet.containers))
        await asyncio.gather(*(clear(state) for state in fleet.containers))
    return cleared


async def _clear_one(client: "AsyncClient", state: "ContainerState", grace_s: float, hurry: asyncio.Event) -> None:
    container = client.guest(state.guest).container(state.id, state.instance)
    try:
        if state.status in ("running", "paused", "creating") and not hurry.is_set():
            stopping = asyncio.create_task(container.stop(grace_s))
            hurried = asyncio.create_task(hurry.wait())
            await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not stopping.done():
                stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
        await container.delete(force=True)
    except NotFoundError:
        return  # it was to be deleted at its exit, and is
    except CorralError as why:
        say(f"{state.guest}/{state.id} could not be ended: {why}")
