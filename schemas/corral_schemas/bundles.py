"""Bundles: root file systems that guests keep under the digest of their content, and the commands that bring them there.

A bundle is a manifest (every file, with its mode, owner and time, and the digests of its chunks) and the chunks it names. Its digest is
the SHA-256 of the manifest's bytes, so that it covers everything in it.
"""

from typing import Annotated, Literal

from msgspec import Meta

from corral_schemas.base import INT64_MAX, ContainerName, Count, Message, Offset, TimeNs
from corral_schemas.limits import (
    BUNDLE_CHUNK_BYTES,
    BUNDLE_ENTRIES_MAX,
    BUNDLE_ENTRIES_PER_REPLY_MAX,
    BUNDLE_MANIFEST_BYTES_MAX,
    BUNDLE_PIECES_MAX,
    UPLOAD_BYTES_MAX,
)

Digest = Annotated[
    str,
    Meta(min_length=71, max_length=71, pattern="^sha256:[0-9a-f]{64}$", description="`sha256:` and 64 hexadecimal digits"),
]
BundleName = Annotated[str, Meta(min_length=1, max_length=256, description="NAME:TAG; without a tag `latest` is meant")]
BundleRef = Annotated[
    str, Meta(min_length=1, max_length=330, description="NAME[:TAG], NAME@sha256:…, or sha256:… with at least 12 of its digits")
]


class ImageConfig(Message, frozen=True, kw_only=True):
    """What a container made from the bundle runs, unless the command says otherwise: the part of an OCI image's configuration used."""

    env: Annotated[list[str], Meta(description="NAME=VALUE")] = []
    entrypoint: Annotated[list[str], Meta(description="Program and first arguments; the command's arguments follow")] = []
    cmd: Annotated[list[str], Meta(description="Arguments (or, without entrypoint, program) where the command gives none")] = []
    user: Annotated[str, Meta(description="As in a ContainerSpec")] = ""
    cwd: Annotated[str, Meta(description="Working directory; empty: /")] = ""


class BundleEntry(Message, frozen=True, kw_only=True):
    """One file, directory or link of a bundle. Devices, pipes and sockets have no place in one."""

    path: Annotated[str, Meta(min_length=1, max_length=4095, description="Relative to the root, without `.` and `..`; `.` is the root")]
    type: Annotated[Literal["file", "directory", "symlink", "hardlink"], Meta(description="What it is")] = "file"
    mode: Annotated[int, Meta(description="Permission bits, setuid, setgid and sticky among them", ge=0, le=0o7777)] = 0o644
    uid: Annotated[int, Meta(description="Owner", ge=0, lt=(1 << 32) - 1)] = 0
    gid: Annotated[int, Meta(description="Group", ge=0, lt=(1 << 32) - 1)] = 0
    mtime_ns: Annotated[int, Meta(description="Time of its last change, nanoseconds since 1970", ge=-INT64_MAX, le=INT64_MAX)] = 0
    size: Annotated[Count, Meta(description="Of a file: its bytes")] = 0
    chunks: Annotated[
        bytes,
        Meta(description="Of a file: the SHA-256 of each of its chunks, 32 bytes each, joined; every chunk but the last is full"),
    ] = b""
    target: Annotated[
        str, Meta(max_length=4095, description="Of a symlink what it says; of a hardlink the path of a file of this bundle")
    ] = ""
    xattrs: Annotated[dict[str, bytes], Meta(description="`security.capability` and `user.*`; no others")] = {}


class BundleManifest(Message, frozen=True, kw_only=True):
    """All of a bundle but the bytes of its files."""

    version: Literal[1] = 1
    image: ImageConfig = ImageConfig()
    entries: Annotated[
        list[BundleEntry],
        Meta(max_length=BUNDLE_ENTRIES_MAX, description="A directory before what is in it, a file before its hard links"),
    ] = []


class BundleInfo(Message, frozen=True, kw_only=True):
    """A bundle that is there, whole and verified."""

    digest: Digest
    names: Annotated[list[BundleName], Meta(description="Names it has")] = []
    bytes: Annotated[Count, Meta(description="Size of its files together")] = 0
    entries: Annotated[Count, Meta(description="Files, directories and links in it")] = 0
    created_ns: Annotated[TimeNs, Meta(description="When it became whole in this guest")] = 0
    used_by: Annotated[list[ContainerName], Meta(description="Containers whose root file system it is")] = []


class IncomingBundle(Message, frozen=True, kw_only=True):
    """A bundle of which only a part has come. A push of the same content goes on from there."""

    digest: Digest
    bytes: Annotated[Count, Meta(description="On the guest's disk for it by now")] = 0
    written_ns: Annotated[TimeNs, Meta(description="When something was last written to it")] = 0


class UploadArgs(Message, frozen=True, kw_only=True):
    """Puts bytes aside in the guest under the digest of the whole they are part of: a bundle's manifest, a file for `write_file`.

    With no data it only asks how much is there. Bytes below that are skipped, bytes beyond it refused with bad_request.
    """

    content: Digest
    offset: Offset = 0
    data: Annotated[bytes, Meta(description="The bytes", max_length=UPLOAD_BYTES_MAX)] = b""
    crc: Annotated[int, Meta(ge=0, lt=1 << 32, description="CRC-32 (zlib) of data")] = 0


class UploadReply(Message, frozen=True, kw_only=True):
    offset: Annotated[Offset, Meta(description="Bytes there by now; the next upload begins here")]


class OpenBundleArgs(Message, frozen=True, kw_only=True):
    """Begins a push, or goes on with one; what the guest has already, of this bundle or of any other, need not be sent."""

    digest: Digest
    manifest_bytes: Annotated[int, Meta(description="Size of the manifest", ge=1, le=BUNDLE_MANIFEST_BYTES_MAX)]


class OpenBundleReply(Message, frozen=True, kw_only=True):
    state: Annotated[
        Literal["present", "manifest", "incoming"],
        Meta(description="`present`: all is there; `manifest`: `upload` it, then ask again; `incoming`: the chunks below are missing"),
    ]
    missing: Annotated[
        bytes,
        Meta(description="One bit per distinct chunk in order of first mention in the manifest, lowest bit first; 1: to be sent"),
    ] = b""
    missing_bytes: Annotated[Count, Meta(description="Bytes of the missing chunks together")] = 0
    bundle: Annotated[BundleInfo | None, Meta(description="With `present`")] = None


class Piece(Message, frozen=True, kw_only=True):
    """A chunk and its bytes; they are held against the digest in the manifest."""

    chunk: Annotated[Count, Meta(description="Its number, in order of first mention in the manifest")]
    data: Annotated[bytes, Meta(description="Its bytes", max_length=BUNDLE_CHUNK_BYTES)]


class WriteBundleArgs(Message, frozen=True, kw_only=True):
    """Sends chunks of a bundle that was opened; in any order, and again without harm."""

    digest: Digest
    pieces: Annotated[list[Piece], Meta(description="The chunks", min_length=1, max_length=BUNDLE_PIECES_MAX)]


class CommitBundleArgs(Message, frozen=True, kw_only=True):
    """Makes a bundle visible once all of it is there and verified, or gives a name to one that is visible already."""

    digest: Digest
    names: Annotated[list[BundleName], Meta(max_length=64, description="Names for it; another bundle that had one loses it")] = []


class BundleReply(Message, frozen=True, kw_only=True):
    bundle: Annotated[BundleInfo, Meta(description="The bundle")]


class ListBundlesArgs(Message, frozen=True, kw_only=True):
    """Lists the guest's bundles."""


class ListBundlesReply(Message, frozen=True, kw_only=True):
    bundles: Annotated[list[BundleInfo], Meta(description="Those that are whole")]
    incoming: Annotated[list[IncomingBundle], Meta(description="Of which only a part has come")] = []
    free_bytes: Annotated[Count, Meta(description="What pushes may still take on the guest's disk")] = 0


class InspectBundleArgs(Message, frozen=True, kw_only=True):
    """What one bundle is, and on request what is in it."""

    bundle: BundleRef
    entries_from: Annotated[Count, Meta(description="Number of the first entry wanted")] = 0
    entries_max: Annotated[int, Meta(ge=0, le=BUNDLE_ENTRIES_PER_REPLY_MAX, description="How many entries; 0: none")] = 0


class InspectBundleReply(Message, frozen=True, kw_only=True):
    bundle: Annotated[BundleInfo, Meta(description="The bundle")]
    image: Annotated[ImageConfig, Meta(description="What its image says of the programs in it")]
    rootfs_path: Annotated[str, Meta(description="Its root file system in the guest; not to be written to")]
    entries: Annotated[list[BundleEntry], Meta(description="Files, directories and links, from `entries_from` on")] = []


class RemoveBundleArgs(Message, frozen=True, kw_only=True):
    """Takes a name away, and with the last name the bundle; by its digest: the bundle, whatever its names.

    A bundle of which only a part has come is given up under its digest.
    """

    bundle: BundleRef


class CollectBundlesArgs(Message, frozen=True, kw_only=True):
    """Removes bundles that have no name and that no container uses, and what is left of pushes that were given up."""

    named: Annotated[bool, Meta(description="Also bundles with a name, if no container uses them")] = False
    idle_ms: Annotated[Count, Meta(description="A push is given up when nothing came for so long")] = 3_600_000


class RemovedBundlesReply(Message, frozen=True, kw_only=True):
    """What went."""

    removed: Annotated[list[Digest], Meta(description="Bundles, whole or in part, that are gone")] = []
    untagged: Annotated[list[BundleName], Meta(description="Names that mean nothing any more")] = []
    freed_bytes: Annotated[Count, Meta(description="Disk space freed; what other bundles share stays")] = 0
