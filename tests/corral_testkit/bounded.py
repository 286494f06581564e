"""Coroutines in plain tests, never for longer than a test may take."""

import asyncio
from collections.abc import Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, None], timeout_s: float = 30.0) -> None:
    """Runs it in a loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(timeout_s):
            await work

    asyncio.run(bounded())
