"""What may be in a bundle: the same rules where one is made and where one arrives. No I/O."""

from dataclasses import dataclass

import msgspec

from corral_schemas.bundles import BundleEntry, BundleManifest
from corral_schemas.errors import CorralError, error
from corral_schemas.limits import BUNDLE_BYTES_MAX, BUNDLE_CHUNK_BYTES, BUNDLE_ENTRIES_MAX, BUNDLE_MANIFEST_BYTES_MAX

DIGEST_BYTES = 32
COMPONENT_BYTES_MAX = 255
"""NAME_MAX of Linux file systems."""
PATH_BYTES_MAX = 4_095
XATTR_BYTES_MAX = 64 << 10
"""Of one entry."""


@dataclass(frozen=True)
class Chunks:
    """The distinct chunks of a manifest, in order of first mention."""

    digests: list[bytes]
    sizes: list[int]
    """Bytes of each."""
    places: list[list[tuple[int, int]]]
    """Where each belongs: (number of the entry, offset in its file)."""


def encode_manifest(manifest: BundleManifest) -> bytes:
    """The bytes whose SHA-256 is the bundle's digest. Raises bundle_invalid for one that is too large."""
    packed = msgspec.msgpack.encode(manifest)
    if len(packed) > BUNDLE_MANIFEST_BYTES_MAX:
        raise refusal("", f"its list of files has {len(packed)} bytes; the limit is {BUNDLE_MANIFEST_BYTES_MAX}")
    return packed


def decode_manifest(packed: bytes) -> BundleManifest:
    """A manifest whose every entry keeps the rules. Raises bundle_invalid."""
    try:
        manifest = msgspec.msgpack.decode(packed, type=BundleManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        raise refusal("", f"its manifest cannot be read: {why}") from why
    check_entries(manifest.entries)
    return manifest


def check_entries(entries: list[BundleEntry]) -> None:
    """Raises bundle_invalid, naming the first entry that no bundle may have."""
    if len(entries) > BUNDLE_ENTRIES_MAX:
        raise refusal("", f"{len(entries)} files, directories and links; the limit is {BUNDLE_ENTRIES_MAX}")
    types: dict[str, str] = {".": "directory"}  # path -> type, of the entries so far
    total = 0
    for number, entry in enumerate(entries):
        if entry.path == ".":
            if number or entry.type != "directory":
                raise refusal(entry.path, "the root is a directory and the first entry")
        else:
            _check_path(entry.path, types)
        types[entry.path] = entry.type
        _check_kind(entry, types)
        total += entry.size
        if total > BUNDLE_BYTES_MAX:
            raise refusal(entry.path, f"the files up to here have {total} bytes; the limit is {BUNDLE_BYTES_MAX}")


def _check_path(path: str, types: dict[str, str]) -> None:
    components = path.split("/")
    if not path or path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in components):
        raise refusal(path, "a path is relative, without empty parts, `.` and `..`")
    if len(path.encode()) > PATH_BYTES_MAX or any(len(part.encode()) > COMPONENT_BYTES_MAX for part in components):
        raise refusal(path, f"a path has at most {PATH_BYTES_MAX} bytes, each part of it {COMPONENT_BYTES_MAX}")
    if path in types:
        raise refusal(path, "it is there twice")
    parent = path.rpartition("/")[0] or "."
    if types.get(parent) != "directory":
        raise refusal(path, f"{parent} is no directory of the bundle" + (" but a link" if types.get(parent) == "symlink" else ""))


def _check_kind(entry: BundleEntry, types: dict[str, str]) -> None:
    chunks = -(-entry.size // BUNDLE_CHUNK_BYTES) if entry.type == "file" else 0
    if len(entry.chunks) != chunks * DIGEST_BYTES or (entry.type != "file" and entry.size):
        raise refusal(entry.path, f"{len(entry.chunks)} bytes of digests do not fit a {entry.type} of {entry.size} bytes")
    if entry.type in ("file", "directory") and entry.target:
        raise refusal(entry.path, f"a {entry.type} has no target")
    if entry.type == "symlink":
        check_symlink(entry.path, entry.target)
    elif entry.type == "hardlink" and types.get(entry.target) != "file":
        raise refusal(entry.path, f"a hard link to {entry.target!r}, which is no file of the bundle before it")
    for name in entry.xattrs:
        if name != "security.capability" and not name.startswith("user."):
            raise refusal(entry.path, f"attribute {name} may not be set from outside")
    if sum(len(name) + len(value) for name, value in entry.xattrs.items()) > XATTR_BYTES_MAX:
        raise refusal(entry.path, f"more than {XATTR_BYTES_MAX} bytes of extended attributes")


def check_symlink(path: str, target: str) -> None:
    """Raises bundle_invalid for a target that climbs above the root. An absolute one begins at the bundle's own root."""
    if not target or "\0" in target or len(target.encode()) > PATH_BYTES_MAX:
        raise refusal(path, f"a symlink to {target[:80]!r}")
    depth = 0 if target.startswith("/") else path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            raise refusal(path, f"a symlink to {target!r}, which escapes from the bundle")


def chunks_of(manifest: BundleManifest) -> Chunks:
    """Raises bundle_invalid where one digest stands for chunks of two sizes."""
    found = Chunks([], [], [])
    numbers: dict[bytes, int] = {}
    for index, entry in enumerate(manifest.entries):
        for offset, digest, size in pieces_of(entry):
            number = numbers.setdefault(digest, len(found.digests))
            if number == len(found.digests):
                found.digests.append(digest)
                found.sizes.append(size)
                found.places.append([])
            elif found.sizes[number] != size:
                raise refusal(entry.path, "one digest stands for chunks of two sizes")
            found.places[number].append((index, offset))
    return found


def pieces_of(entry: BundleEntry) -> list[tuple[int, bytes, int]]:
    """(offset, digest, size) of each chunk of a file."""
    return [
        (
            offset := number * BUNDLE_CHUNK_BYTES,
            entry.chunks[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES],
            min(BUNDLE_CHUNK_BYTES, entry.size - offset),
        )
        for number in range(len(entry.chunks) // DIGEST_BYTES)
    ]


def refusal(path: str, why: str) -> CorralError:
    """The error for content that no bundle may have."""
    shown = path if len(path) <= 200 else path[:197] + "…"
    return error("bundle_invalid", f"{shown}: {why}" if shown else f"bundle: {why}", path=shown)
