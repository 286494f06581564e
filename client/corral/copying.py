"""Single files into and out of containers: in pieces with checksums, whole at the end or not at all."""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from corral.bundle.push import PATIENCE_S, STEP_TIMEOUT_S, upload
from corral.connection import Connection
from corral.placing import Placing
from corral_schemas.checksum import crc32
from corral_schemas.commands import ContainerTarget
from corral_schemas.errors import CorralError, error
from corral_schemas.files import ReadFileArgs, ReadFileReply, WriteFileArgs, WriteFileReply
from corral_schemas.limits import UPLOAD_BYTES_MAX

TRIES_MAX = 3
"""A file that changes while it is read is read again so often; what was uploaded and is gone is uploaded again."""


async def copy_in(connection: Connection, guest: str, target: ContainerTarget, source: Path, path: str) -> str:
    """A file of this machine into a container, with its mode and time, owned by root there; → its path there.

    Raises file_not_found, bad_request (no single file, a read-only place), storage_full, OSError.
    """
    if not source.is_file():
        why = (
            "is a directory: single files are copied" if source.is_dir() else "is not there" if not source.exists() else "is no plain file"
        )
        raise error("bad_request" if source.exists() else "file_not_found", f"{source} {why}", path=str(source))
    with source.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        about = os.fstat(file.fileno())
        args = WriteFileArgs(
            container=target.container,
            instance=target.instance,
            path=path,
            name=source.name,
            content=digest,
            size=about.st_size,
            mode=about.st_mode & 0o7777,
            mtime_ns=about.st_mtime_ns,
        )
        for turn in range(TRIES_MAX):
            await upload(connection, guest, digest, lambda offset: os.pread(file.fileno(), UPLOAD_BYTES_MAX, offset))
            try:
                return (
                    await connection.ask(guest, "write_file", args, WriteFileReply, timeout_s=STEP_TIMEOUT_S, patience_s=PATIENCE_S)
                ).path
            except CorralError as why:
                # another copy of the same content was done with what had been uploaded for both, or it came damaged
                if ("uploaded" not in why.details and why.code != "content_corrupt") or turn == TRIES_MAX - 1:
                    raise
    raise AssertionError("unreachable")


async def copy_out(connection: Connection, guest: str, target: ContainerTarget, path: str, destination: Path) -> Path:
    """A file of a container onto this machine, with its mode and time; → where it is. A directory as destination keeps the file's name.

    A link is followed; a pipe, a device and a file with several names are written into and stay what they are.

    Raises file_not_found, bad_request (no single file), file_changed (also after several tries), OSError.
    """
    place = destination / Path(path).name if destination.is_dir() else destination
    for turn in range(TRIES_MAX):
        try:
            await _fetch(connection, guest, target, path, place)
            return place
        except CorralError as why:
            if why.code != "file_changed" or turn == TRIES_MAX - 1:
                raise
    raise AssertionError("unreachable")


async def _fetch(connection: Connection, guest: str, target: ContainerTarget, path: str, place: Path) -> None:
    """Whole before any of it is in its place: what is written into a pipe cannot be taken back."""
    placing = Placing(place, 0o600)
    try:
        offset, version = 0, ""
        while True:
            reply = await _part(connection, guest, target, path, offset, version)
            placing.file.write(reply.data)
            offset, version = offset + len(reply.data), reply.version
            if offset >= reply.size:
                break
            if not reply.data:
                raise error("file_changed", f"{path} became shorter while it was being read", path=path)
        placing.file.flush()
        os.fchmod(placing.file.fileno(), reply.mode & 0o777)  # no set-id program that somebody in a container made
        os.utime(placing.file.fileno(), ns=(reply.mtime_ns, reply.mtime_ns))
        if placing.waits:
            await _in_thread(placing.put)
        else:
            placing.put()
    finally:
        placing.close()


async def _in_thread(act: Callable[[], None]) -> None:
    """In one of its own, which nothing waits for at the end: a pipe that nobody reads holds up this copy alone."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(failure: Exception | None) -> None:
        if done.cancelled():
            return
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)

    def work() -> None:
        failure: Exception | None = None
        try:
            act()
        except (OSError, ValueError) as why:  # ValueError: the copy was given up, and its file is closed
            failure = why
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(finish, failure)

    threading.Thread(target=work, name="corral-copy", daemon=True).start()
    await done


async def _part(connection: Connection, guest: str, target: ContainerTarget, path: str, offset: int, version: str) -> ReadFileReply:
    args = ReadFileArgs(container=target.container, instance=target.instance, path=path, offset=offset, version=version)
    reply = await connection.ask(guest, "read_file", args, ReadFileReply, patience_s=PATIENCE_S)
    if crc32(reply.data) != reply.crc:
        raise error("content_corrupt", f"the bytes of {path} at {offset} do not have the checksum stated for them", path=path)
    return reply
