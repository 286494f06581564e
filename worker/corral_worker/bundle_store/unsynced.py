"""Bundles that are whole, but not yet known to be on the disk.

A push is answered once every byte is verified and visible; the disk gets it a little later. Until then a mark beside the bundle names the
memory that has what was verified: the page cache keeps it, whatever becomes of the worker. Where another memory finds that mark the power
may have gone first: the bundle is then out of sight until all of it has been held against its digests again.

The mark is on disk before a bundle's rename can be, and goes only after the file system was synced. Everything here may block.
"""

import contextlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from corral_schemas.bundles import BundleEntry
from corral_worker.base.durable import write_durably
from corral_worker.bundle_store.disk import sync_filesystem, write_out

log = logging.getLogger(__name__)

MARK = "unsynced"
STEP_BYTES = 8 << 20
"""Written and waited for at a time: a journal that syncs meanwhile waits for no more."""
SMALL_BYTES = 64 << 10
"""Files under this size are left to the sync of the whole file system."""


@dataclass(frozen=True)
class Memory:
    """The memory of this guest, for as long as it keeps what was written.

    Clones of one template, and a machine that is cloned from it a second time, have one boot id: a random word beside it in a file of RUN,
    which no template has and no power cut leaves, tells them apart.
    """

    file: Path
    boot: str
    """Id of the guest's present boot."""

    def id(self) -> bytes:
        """Raises OSError."""
        if not self.file.exists():
            aside = self.file.with_name(f"{self.file.name}.new")
            aside.write_text(secrets.token_hex(16))
            aside.replace(self.file)
        return self.boot.encode() + b" " + self.file.read_bytes()


def mark(directory: Path, memory: bytes) -> None:
    """Afterwards a power cut does not take the mark away. Raises OSError."""
    write_durably(directory / MARK, memory)


def is_certain(directory: Path, memory: bytes) -> bool:
    """Whether what stands there is what was verified: it is on disk, or still in this memory."""
    try:
        return (directory / MARK).read_bytes() == memory
    except FileNotFoundError:
        return True


def is_marked(directory: Path) -> bool:
    return (directory / MARK).exists()


def sync(directory: Path, rootfs: Path, entries: list[BundleEntry]) -> None:
    """Writes a bundle out, in steps that hold nothing else up for long, and takes its mark away. Raises OSError."""
    bundle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # this one, though it be removed and pushed again meanwhile
    try:
        _write_out(rootfs, entries)
        sync_filesystem(bundle)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(MARK, dir_fd=bundle)
    finally:
        os.close(bundle)
    log.info("bundle %s is on disk", directory.name)


def _write_out(rootfs: Path, entries: list[BundleEntry]) -> None:
    for entry in entries:
        if entry.type == "file" and entry.size >= SMALL_BYTES:
            descriptor = os.open(rootfs / entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                for offset in range(0, entry.size, STEP_BYTES):
                    write_out(descriptor, offset, STEP_BYTES)
            finally:
                os.close(descriptor)
