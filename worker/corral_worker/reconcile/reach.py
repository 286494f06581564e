"""Which shims a starting worker can reach. Only what is seen dead is dead: one that does not answer is asked on, beside everything else."""

import asyncio
import logging
from collections.abc import Iterable

from corral_worker.containers.guest import Guest
from corral_worker.shims.port import ShimGoneError

log = logging.getLogger(__name__)

DEAD = (FileNotFoundError, ConnectionRefusedError, ShimGoneError)
"""What connecting to a shim that has ended raises. Any other OSError, a timeout among them, says nothing of the shim."""
AT_ONCE_MAX = 64
"""Shims asked at the same time."""
PATIENCE_S = 1.0
"""A start goes on when no shim has answered for so long; the rest is adopted whenever it answers."""
AGAIN_S = 1.0
"""Between two tries to reach a shim that does not answer."""


async def reach(guest: Guest, instances: Iterable[str]) -> "dict[str, asyncio.Task[bool]]":
    """Connect to the shims of these containers, all at once.

    Return a task for each: True when its shim is connected, False when it is seen to be dead. Tasks of shims that keep silent run on.
    """
    gate = asyncio.Semaphore(AT_ONCE_MAX)
    tasks = {instance: asyncio.create_task(_reach(guest, instance, gate)) for instance in instances}
    pending = set(tasks.values())
    while pending:
        answered, pending = await asyncio.wait(pending, timeout=PATIENCE_S)
        if not answered:
            break
    for instance, task in tasks.items():
        if task in pending:
            log.warning("instance %s: its shim does not answer; it is adopted when it does", instance)
            guest.link_later(instance, task)
    return tasks


async def _reach(guest: Guest, instance: str, gate: asyncio.Semaphore) -> bool:
    while True:
        try:
            async with gate:
                link = await guest.connect_shim(instance)
        except DEAD as why:
            log.warning("instance %s: its shim is gone: %s", instance, why)
            return False
        except OSError as why:
            log.info("instance %s: its shim does not answer: %s", instance, why or type(why).__name__)
            await asyncio.sleep(AGAIN_S)
        else:
            log.info("instance %s: shim %s taken over", instance, link.state.get("pid"))
            return True
