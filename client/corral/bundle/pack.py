"""From a source to a bundle: the manifest, its digest, and the bytes of each chunk when they are asked for."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from corral.bundle.sources import Found, Source
from corral_schemas.bundle_rules import Chunks, check_entries, chunks_of, encode_manifest, refusal
from corral_schemas.bundles import BundleEntry, BundleManifest, ImageConfig
from corral_schemas.errors import error
from corral_schemas.limits import BUNDLE_BYTES_MAX, BUNDLE_CHUNK_BYTES, BUNDLE_ENTRIES_MAX

Opener = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Packed:
    """A bundle ready to be pushed, to any number of guests. Its files stay where they are and are read when they are sent."""

    digest: str
    manifest: bytes
    image: ImageConfig
    chunks: Chunks
    total_bytes: int
    """Size of its files together."""
    entries: int
    openers: dict[int, Opener]
    """Number of an entry → how to open its file."""

    def read(self, number: int) -> bytes:
        """The bytes of a chunk; the guest holds them against its digest. Raises OSError. May block."""
        index, offset = self.chunks.places[number][0]
        with self.openers[index]() as file:
            file.seek(offset)
            return file.read(self.chunks.sizes[number])

    def read_into(self, number: int, room: memoryview) -> None:
        """The same, into memory of the chunk's size; of a file that has become shorter, zeros. Raises OSError. May block."""
        index, offset = self.chunks.places[number][0]
        with self.openers[index]() as file:
            file.seek(offset)
            while room and (count := file.readinto(room)):  # type: ignore[attr-defined]
                room = room[count:]

    def is_unchanged(self, numbers: Iterable[int]) -> bool:
        """Whether these chunks are still what they were when they were packed. May block."""
        return all(hashlib.sha256(self.read(number)).digest() == self.chunks.digests[number] for number in numbers)


def pack(source: Source, image: ImageConfig | None = None) -> Packed:
    """Reads all of the source once, for its digests. Raises bundle_invalid, OSError. May take long."""
    found = _in_order(source)
    check_entries([_unread(one.entry) for one in found])  # before gigabytes are read for nothing
    entries = [_with_chunks(one) for one in found]
    manifest = BundleManifest(image=image or ImageConfig(), entries=entries)
    packed = encode_manifest(manifest)
    check_entries(entries)
    return Packed(
        digest=f"sha256:{hashlib.sha256(packed).hexdigest()}",
        manifest=packed,
        image=manifest.image,
        chunks=chunks_of(manifest),
        total_bytes=sum(entry.size for entry in entries),
        entries=len(entries),
        openers={index: one.open for index, one in enumerate(found) if one.open is not None},
    )


def _in_order(source: Source) -> list[Found]:
    """The same content always in the same order, whatever order a disk or an archive has: hard links last, else by path."""
    found: list[Found] = []
    size = 0
    for one in source.found():
        found.append(one)
        size += one.entry.size
        if len(found) > BUNDLE_ENTRIES_MAX:
            raise refusal("", f"more than {BUNDLE_ENTRIES_MAX} files, directories and links")
        if size > BUNDLE_BYTES_MAX:
            raise refusal(one.entry.path, f"the files up to here have {size} bytes; the limit is {BUNDLE_BYTES_MAX}")
    return sorted(found, key=lambda one: (one.entry.type == "hardlink", one.entry.path.split("/") if one.entry.path != "." else []))


def _unread(entry: BundleEntry) -> BundleEntry:
    """With digests of nothing in place of those that are not known yet."""
    chunks = -(-entry.size // BUNDLE_CHUNK_BYTES) if entry.type == "file" else 0
    return msgspec.structs.replace(entry, chunks=bytes(32 * chunks))


def _with_chunks(one: Found) -> BundleEntry:
    if one.open is None:
        return one.entry
    digests = bytearray()
    read = 0
    with one.open() as file:
        while block := file.read(BUNDLE_CHUNK_BYTES):
            digests += hashlib.sha256(block).digest()
            read += len(block)
            if read > one.entry.size:
                break
    if read != one.entry.size:
        raise error("file_changed", f"{one.entry.path} has {read} bytes instead of {one.entry.size}: it is being written to; pack it again")
    return msgspec.structs.replace(one.entry, chunks=bytes(digests))
