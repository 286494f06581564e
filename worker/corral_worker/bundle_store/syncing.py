"""Brings bundles onto the disk some time after their push was answered, one after the other, in a thread of its own."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral_schemas.bundle_rules import decode_manifest
from corral_schemas.errors import CorralError
from corral_worker.bundle_store import unsynced
from corral_worker.bundle_store.incoming import MANIFEST, ROOTFS

log = logging.getLogger(__name__)

SYNC_AFTER_S = 1.0
"""From the answer to a push until the disk is made to take it: others may be under way, and wait for nothing."""


class Syncing:
    """The syncs that are to come. Its methods belong to the event loop's thread."""

    def __init__(self, be_nice: Callable[[], None]) -> None:
        """`be_nice` is called in the thread before all else."""
        self._thread = ThreadPoolExecutor(1, "corral-bundles-sync", initializer=be_nice)
        self._tasks: dict[Path, asyncio.Task[None]] = {}

    def later(self, directory: Path) -> None:
        """A bundle that has become visible."""
        if unsynced.is_marked(directory):
            self._tasks[directory] = asyncio.ensure_future(self._sync(directory))

    def forget(self, directory: Path) -> None:
        """A bundle that is being removed."""
        if directory in self._tasks:
            self._tasks.pop(directory).cancel()

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _sync(self, directory: Path) -> None:
        await asyncio.sleep(SYNC_AFTER_S)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, _sync_in_thread, directory)
        except (OSError, CorralError) as why:
            log.error("bundle %s could not be brought onto the disk (%s): it is verified again after the next boot", directory.name, why)


def _sync_in_thread(directory: Path) -> None:
    unsynced.sync(directory, directory / ROOTFS, decode_manifest((directory / MANIFEST).read_bytes()).entries)
