"""A bundle on its way in: a tree that is filled chunk by chunk, each held against its digest, and finished when all are there.

Its directory alone says how far it has come: what a killed worker or a power cut left is read and held against the digests again.
Everything here may block: it runs in the store's thread.
"""

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral_schemas.bundle_rules import Chunks, chunks_of, decode_manifest, refusal
from corral_schemas.bundles import BundleEntry, BundleManifest
from corral_schemas.errors import error
from corral_schemas.limits import BUNDLE_CHUNK_BYTES
from corral_worker.bundle_store.disk import check_space, start_writeback

log = logging.getLogger(__name__)

MANIFEST, ROOTFS = "manifest", "rootfs"
ENTRY_BYTES = 4_096
"""What an entry takes on the disk beside its content, about."""

ZEROS = hashlib.sha256(bytes(BUNDLE_CHUNK_BYTES)).digest()
"""Of a chunk that need not be written."""

WRITTEN_AHEAD_BYTES = 128 << 20
"""Of one bundle, in memory only; the kernel is told to begin writing what comes beyond, or a journal that syncs would wait long."""

Data = bytes | memoryview
Pieces = Sequence[tuple[int, Data]]
"""Numbers of chunks, and their bytes."""
Key = tuple[object, ...]
"""What must be equal for two files to be one on the disk."""


@dataclass(frozen=True)
class Kept:
    """What other bundles have of this one's content."""

    files: dict[Key, Path]
    """Whole files, alike in all."""
    chunks: dict[bytes, tuple[Path, int]]
    """Digest → a file and the offset there."""


def same_file(entry: BundleEntry) -> Key:
    """Equal for files that are alike in content and in all that is kept about them."""
    return (entry.chunks, entry.mode, entry.uid, entry.gid, entry.mtime_ns, tuple(sorted(entry.xattrs.items())))


class Incoming:
    """One bundle of which not all is there yet."""

    def __init__(self, directory: Path) -> None:
        """Reads the manifest there. Raises bundle_invalid, OSError."""
        self.directory = directory
        self.rootfs = directory / ROOTFS
        self.manifest: BundleManifest = decode_manifest((directory / MANIFEST).read_bytes())
        self.chunks: Chunks = chunks_of(self.manifest)
        self.there = bytearray(len(self.chunks.digests))
        """1 for each chunk that stands verified in all its places."""
        self._linked: set[int] = set()  # entries that are one file with another bundle's: never written to
        self._fresh = False  # its files hold nothing yet
        self._put_bytes = 0

    # -- the tree ----------------------------------------------------------------------------------------------------------------

    def prepare(self, find: Callable[["Incoming"], Kept]) -> None:
        """Makes the tree, takes in what is here already, and finds out what is missing. Raises storage_full, OSError."""
        self._fresh = not self.rootfs.exists()
        kept = find(self)
        shared = sum(entry.size for entry in self.manifest.entries if entry.type == "file" and same_file(entry) in kept.files)
        total = sum(entry.size for entry in self.manifest.entries)
        if self._fresh:
            check_space(self.directory, total - shared + ENTRY_BYTES * len(self.manifest.entries))
        self._make_tree()
        self._link(kept)
        sources = self._verified_places() if not self._fresh or self._linked else {}
        for number in range(len(self.there)):
            if not self.there[number]:
                self._take_in(number, sources.get(number), kept)

    def _make_tree(self) -> None:
        self.rootfs.mkdir(mode=0o700, exist_ok=True)
        for entry in self.manifest.entries:
            path = self.path(entry)
            if entry.type == "directory":
                path.mkdir(mode=0o700, exist_ok=True)
            elif entry.type == "symlink":
                if not path.is_symlink():
                    path.symlink_to(entry.target)
                elif str(path.readlink()) != entry.target:
                    path.unlink()
                    path.symlink_to(entry.target)
            elif entry.type == "file" and not os.path.lexists(path):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                os.ftruncate(descriptor, entry.size)
                os.close(descriptor)

    def _link(self, kept: Kept) -> None:
        """Files that another bundle has alike in all become one with them."""
        for index, entry in enumerate(self.manifest.entries):
            source = kept.files.get(same_file(entry)) if entry.type == "file" and entry.size else None
            if source is None:
                continue
            path = self.path(entry)
            try:
                if not path.samefile(source):
                    aside = self.directory / "link"
                    aside.unlink(missing_ok=True)
                    os.link(source, aside)
                    aside.replace(path)
            except OSError as why:  # that bundle has just been removed, or has as many links as its file system can count
                log.info("%s is copied, not shared: %s", entry.path, why)
                continue
            self._linked.add(index)

    def _verified_places(self) -> dict[int, tuple[Path, int]]:
        """Chunk → a place in this tree that holds it. Those that stand in all their places are marked as there."""
        found: dict[int, tuple[Path, int]] = {}
        damaged: set[int] = set()
        for number, digest in enumerate(self.chunks.digests):
            places, size = self.chunks.places[number], self.chunks.sizes[number]
            good = [place for place in places if self._holds(place, size, digest)]
            if good:
                index, offset = good[0]
                found[number] = (self.path(self.manifest.entries[index]), offset)
            self.there[number] = len(good) == len(places)
            damaged |= {index for index, offset in places if index in self._linked and (index, offset) not in good}
        for index in damaged:
            self._unlink(index)
        return found

    def _unlink(self, index: int) -> None:
        """The other bundle's file does not hold what its manifest says: this one gets a file of its own."""
        path = self.path(self.manifest.entries[index])
        log.error("%s: the file another bundle has of it is damaged; not shared", path)
        path.unlink()
        self._linked.discard(index)
        for number, places in enumerate(self.chunks.places):
            if any(place[0] == index for place in places):
                self.there[number] = 0
        self._make_tree()

    def _holds(self, place: tuple[int, int], size: int, digest: bytes) -> bool:
        index, offset = place
        return _read(self.path(self.manifest.entries[index]), offset, size, digest) is not None

    def _take_in(self, number: int, here: tuple[Path, int] | None, kept: Kept) -> None:
        """Fills a chunk's places from one that has it, in this tree or in another bundle."""
        digest, size = self.chunks.digests[number], self.chunks.sizes[number]
        source = here or kept.chunks.get(digest)
        if source is None:
            return
        data = _read(*source, size, digest)
        if data is None:
            log.error("%s at %d does not hold the chunk it should; it is asked for anew", *source)
            return
        self._put(number, data)

    # -- chunks ------------------------------------------------------------------------------------------------------------------

    def write(self, pieces: Pieces) -> None:
        """Takes chunks in. Raises content_corrupt, bad_request, OSError."""
        for chunk, data in pieces:
            if chunk >= len(self.there):
                raise error("bad_request", f"chunk {chunk}: the bundle has {len(self.there)}", chunk=chunk)
            if len(data) != self.chunks.sizes[chunk] or hashlib.sha256(data).digest() != self.chunks.digests[chunk]:
                raise error("content_corrupt", f"chunk {chunk} does not have the digest the manifest states", chunk=chunk)
            if not self.there[chunk]:
                self._put(chunk, data)
        os.utime(self.directory / MANIFEST)

    def _put(self, number: int, data: Data) -> None:
        hole = self._fresh and self.chunks.digests[number] == ZEROS  # as it is
        for index, offset in self.chunks.places[number]:
            if index in self._linked or hole:
                continue
            descriptor = os.open(self.path(self.manifest.entries[index]), os.O_WRONLY | os.O_NOFOLLOW)
            try:
                if os.pwrite(descriptor, data, offset) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # what a short write to a file means
                self._put_bytes += len(data)
                if self._put_bytes > WRITTEN_AHEAD_BYTES:
                    start_writeback(descriptor, offset, len(data))
            finally:
                os.close(descriptor)
        self.there[number] = 1

    def missing(self) -> tuple[bytes, int]:
        """(one bit for each chunk, lowest first; bytes of those missing)"""
        bits = bytearray(-(-len(self.there) // 8))
        size = 0
        for number, there in enumerate(self.there):
            if not there:
                bits[number >> 3] |= 1 << (number & 7)
                size += self.chunks.sizes[number]
        return bytes(bits), size

    # -- the end -----------------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Gives everything its owner, mode and time. Raises bundle_incomplete, OSError."""
        if not all(self.there):
            missing = self.there.count(0)
            raise error("bundle_incomplete", f"{missing} of {len(self.there)} chunks are missing", missing=missing)
        entries = self.manifest.entries
        for index, entry in enumerate(entries):
            path = self.path(entry)
            if entry.type == "hardlink":
                self._link_hard(self.rootfs / entry.target, path)
            elif entry.type == "symlink":
                os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
            elif entry.type == "file" and index not in self._linked:
                _dress(path, entry)
        for entry in reversed(entries):  # what is in a directory before the directory: each change in it moves its time
            if entry.type == "directory":
                _dress(self.path(entry), entry)

    def _link_hard(self, target: Path, path: Path) -> None:
        if os.path.lexists(path):
            if path.samefile(target):
                return
            path.unlink()  # of a file that was damaged and has been made anew since
        os.link(target, path)

    def path(self, entry: BundleEntry) -> Path:
        """Safe to follow: every component above it is a directory of the manifest, made here, in a tree that only root can enter."""
        return self.rootfs / entry.path


def _dress(path: Path, entry: BundleEntry) -> None:
    os.chown(path, entry.uid, entry.gid)
    for name, value in entry.xattrs.items():
        try:
            os.setxattr(path, name, value)
        except OSError as why:
            raise refusal(entry.path, f"this guest's file system does not take its attribute {name}: {why.strerror}") from why
    path.chmod(entry.mode)  # after chown, which takes set-id bits away
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def _read(path: Path, offset: int, size: int, digest: bytes) -> bytes | None:
    """A chunk, if it is there as its digest says."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # a bundle that was just removed
        return None
    try:
        data = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    return data if len(data) == size and hashlib.sha256(data).digest() == digest else None
