"""Single files into and out of a container's file system, as the container sees it: no link in it leads out of it."""

from typing import Annotated

from msgspec import Meta

from corral_schemas.base import INT64_MAX, Count, Message, Offset
from corral_schemas.bundles import Digest
from corral_schemas.commands import ContainerTarget
from corral_schemas.limits import UPLOAD_BYTES_MAX

FilePath = Annotated[str, Meta(min_length=1, max_length=4095, description="Path in the container; relative to its root")]


class ReadFileArgs(ContainerTarget, frozen=True, kw_only=True):
    """Reads a part of a regular file."""

    path: FilePath
    offset: Offset = 0
    max_bytes: Annotated[int, Meta(description="Most bytes in the reply", ge=0, le=UPLOAD_BYTES_MAX)] = UPLOAD_BYTES_MAX
    version: Annotated[str, Meta(max_length=128, description="As in the first reply: another file there by now is file_changed")] = ""


class ReadFileReply(Message, frozen=True, kw_only=True):
    size: Annotated[Count, Meta(description="Size of the whole file, bytes")]
    mode: Annotated[int, Meta(description="Permission bits, setuid, setgid and sticky among them", ge=0, le=0o7777)]
    uid: Annotated[Count, Meta(description="Owner")]
    gid: Annotated[Count, Meta(description="Group")]
    mtime_ns: Annotated[int, Meta(description="Time of its last change, nanoseconds since 1970", ge=-INT64_MAX, le=INT64_MAX)]
    version: Annotated[str, Meta(description="Changes when the file is replaced or written to")]
    data: Annotated[bytes, Meta(description="The bytes", max_length=UPLOAD_BYTES_MAX)]
    crc: Annotated[int, Meta(ge=0, lt=1 << 32, description="CRC-32 (zlib) of data")]


class WriteFileArgs(ContainerTarget, frozen=True, kw_only=True):
    """Puts a file whose content was uploaded in its place: whole, or not at all."""

    path: Annotated[FilePath, Meta(description="Of the file; with a directory there, or a `/` at its end, `name` in it")]
    name: Annotated[str, Meta(max_length=255, description="The file's name where path is a directory")] = ""
    content: Digest
    size: Annotated[Count, Meta(description="Size of the file, bytes")]
    mode: Annotated[int, Meta(description="Permission bits, setuid, setgid and sticky among them", ge=0, le=0o7777)] = 0o644
    uid: Annotated[int, Meta(description="Owner", ge=0, lt=(1 << 32) - 1)] = 0
    gid: Annotated[int, Meta(description="Group", ge=0, lt=(1 << 32) - 1)] = 0
    mtime_ns: Annotated[int | None, Meta(description="null: now")] = None


class WriteFileReply(Message, frozen=True, kw_only=True):
    path: Annotated[str, Meta(description="Where it was written, as the container sees it")]
