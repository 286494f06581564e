"""Pushes: bundles on their way in, from the upload of a manifest to the rename that makes a bundle visible.

Everything here may block: it runs in the store's thread, one call at a time.
"""

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from corral_schemas.bundle_rules import decode_manifest, pieces_of
from corral_schemas.bundles import ImageConfig, IncomingBundle
from corral_schemas.errors import CorralError, error
from corral_worker.bundle_store import unsynced
from corral_worker.bundle_store.disk import remove_tree, storage_error
from corral_worker.bundle_store.incoming import MANIFEST, ROOTFS, Incoming, Kept, Pieces, same_file
from corral_worker.bundle_store.uploads import Uploads, digest_of

log = logging.getLogger(__name__)

ABOUT = "about"
PREFIX = "sha256:"


class About(msgspec.Struct, kw_only=True):
    """What is kept beside a bundle's files."""

    image: ImageConfig
    bytes: int
    entries: int
    created_ns: int


class Pushes:
    """All that is on its way in. `bare` is a digest without its prefix."""

    def __init__(self, coming: Path, whole: Path, uploads: Uploads, memory: unsynced.Memory) -> None:
        self._coming, self._whole, self._uploads, self._memory = coming, whole, uploads, memory
        self._incoming: dict[str, Incoming] = {}  # those that this worker has looked at

    def look_over(self) -> None:
        """At the start: removes what had hardly begun, and says what is kept."""
        for path in directories_in(self._coming):
            if not (path / MANIFEST).is_file():
                log.warning("a push of %s had hardly begun; removing it", path.name)
                remove_tree(path)
            elif not (path / ABOUT).exists():  # see doubt
                log.warning("a push of %s was broken off; what came of it is kept, for a push to go on from", path.name)

    def doubt(self) -> list[str]:
        """At the start: out of sight with what a power cut may have torn; → those that were whole before, for `commit` to look at."""
        memory = self._memory.id()
        for path in directories_in(self._whole):
            if not unsynced.is_certain(path, memory):
                self._coming.mkdir(mode=0o700, exist_ok=True)
                os.utime(path / MANIFEST)  # it is to be gone on with, whenever it was pushed
                path.rename(self._coming / path.name)
        return [path.name for path in directories_in(self._coming) if (path / ABOUT).exists()]

    def give_up(self, before_s: float) -> tuple[list[str], int]:
        """Removes what nobody went on with since then (wall clock); → (bundles given up, bytes freed)."""
        gone, freed = self._uploads.drop_older(before_s), 0
        for path in directories_in(self._coming):
            if _written_s(path) < before_s:
                log.warning("the push of %s was not gone on with: removing what came of it", path.name)
                freed += self.abandon(path.name)
                gone.append(path.name)
        return gone, freed

    def open(self, bare: str, manifest_bytes: int) -> tuple[bytes, int] | None:
        """(bits of the missing chunks, their bytes); None while the manifest is wanted. Raises bundle_invalid, content_corrupt,
        storage_full."""
        directory = self._coming / bare
        if not self._has_manifest(bare):
            if self._uploads.size(PREFIX + bare) < manifest_bytes:
                return None
            uploaded = self._uploads.verified(PREFIX + bare, manifest_bytes)
            try:
                decode_manifest(uploaded.read_bytes())
            except CorralError:
                self._uploads.drop(PREFIX + bare)
                raise
            with self._abandoned_on_failure(bare):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                uploaded.rename(directory / MANIFEST)
        with self._abandoned_on_failure(bare):
            return self._coming_in(bare).missing()

    def _has_manifest(self, bare: str) -> bool:
        """One that a power cut tore is removed: it is asked for anew, and what came by it is held against the new one."""
        path = self._coming / bare / MANIFEST
        if bare in self._incoming:
            return True
        if not path.is_file():
            return False
        if digest_of(path) != bare:
            log.error("the manifest of bundle %s does not have the digest it should; it is asked for anew", bare)
            path.unlink()
            return False
        return True

    def _coming_in(self, bare: str) -> Incoming:
        """What came of a push, by this worker or by one before it. Raises bundle_not_found."""
        coming = self._incoming.get(bare)
        if coming is None:
            if not self._has_manifest(bare):
                raise error("bundle_not_found", f"no push of {PREFIX}{bare} is under way here; open it first", digest=PREFIX + bare)
            coming = Incoming(self._coming / bare)
            coming.prepare(self._kept_of)
            unsynced.mark(coming.directory, self._memory.id())  # what another memory left has just been held against its digests
            self._incoming[bare] = coming
        return coming

    def _kept_of(self, coming: Incoming) -> Kept:
        """What bundles that are there have of one that comes."""
        files = {same_file(entry) for entry in coming.manifest.entries if entry.type == "file"}
        chunks = set(coming.chunks.digests)
        kept = Kept({}, {})
        for path in directories_in(self._whole):
            try:
                entries = decode_manifest((path / MANIFEST).read_bytes()).entries
            except (OSError, CorralError) as why:  # it is being removed
                log.info("nothing is taken from bundle %s: %s", path.name, why)
                continue
            for entry in entries:
                if entry.type != "file" or not entry.size:
                    continue
                where = path / ROOTFS / entry.path
                if same_file(entry) in files:
                    kept.files.setdefault(same_file(entry), where)
                for offset, digest, _ in pieces_of(entry):
                    if digest in chunks:
                        kept.chunks.setdefault(digest, (where, offset))
        return kept

    def write(self, bare: str, pieces: Pieces) -> None:
        """Raises content_corrupt, bundle_not_found, bad_request, storage_full."""
        with self._abandoned_on_failure(bare):
            self._coming_in(bare).write(pieces)

    def commit(self, bare: str) -> About:
        """Makes it visible; whether it is on disk its mark tells. Raises bundle_incomplete, bundle_not_found, storage_full."""
        place = self._whole / bare
        if (place / ABOUT).is_file():  # a repeat, or a worker that was killed right after the rename
            return msgspec.msgpack.decode((place / ABOUT).read_bytes(), type=About)
        with self._abandoned_on_failure(bare):
            coming = self._coming_in(bare)
            entries = coming.manifest.entries
            size = sum(entry.size for entry in entries)
            about = About(image=coming.manifest.image, bytes=size, entries=len(entries), created_ns=time.time_ns())
            coming.finish()
            (coming.directory / ABOUT).write_bytes(msgspec.msgpack.encode(about))
            self._whole.mkdir(mode=0o700, exist_ok=True)
            coming.directory.rename(place)
        del self._incoming[bare]
        return about

    @contextmanager
    def _abandoned_on_failure(self, bare: str) -> Iterator[None]:
        """What the disk has no room for, and what no bundle may be, leaves nothing behind. Raises storage_full."""
        try:
            yield
        except OSError as why:
            log.error("push of %s: %s; what came of it is removed", bare, why)
            self.abandon(bare)
            if why.errno in (errno.ENOSPC, errno.EDQUOT):
                raise storage_error(why, f"push of {PREFIX}{bare}") from why
            raise error("runtime_failed", f"push of {PREFIX}{bare}: {why}", errno=why.errno or 0) from why
        except CorralError as why:
            if why.code in ("storage_full", "bundle_invalid"):
                self.abandon(bare)
            raise

    def abandon(self, bare: str) -> int:
        """Leaves nothing of a push; → bytes freed."""
        self._incoming.pop(bare, None)
        self._uploads.drop(PREFIX + bare)
        return remove_tree(self._coming / bare)

    def all(self) -> list[IncomingBundle]:
        """What is on its way in, or was broken off."""
        found = []
        for path in directories_in(self._coming):
            size = sum(os.lstat(file).st_blocks * 512 for file in path.rglob("*"))
            found.append(IncomingBundle(digest=PREFIX + path.name, bytes=size, written_ns=int(_written_s(path) * 1e9)))
        return found


def _written_s(path: Path) -> float:
    """When something last came for a push (wall clock)."""
    try:
        return (path / MANIFEST).stat().st_mtime
    except FileNotFoundError:  # it has just become whole, or is gone
        return time.time()


def directories_in(directory: Path) -> list[Path]:
    """What is in it, in order; nothing where it is not there."""
    return sorted(directory.iterdir()) if directory.is_dir() else []
