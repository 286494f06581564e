"""Coroutines in plain tests, never for longer than a test may take."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result], timeout_s: float = 30.0) -> Result:
    """Runs it in a loop of its own."""

    async def bounded() -> Result:
        async with asyncio.timeout(timeout_s):
            return await work

    return asyncio.run(bounded())
