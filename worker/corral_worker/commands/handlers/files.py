"""read_file and write_file: single files of a container, as the container sees them."""

import asyncio
import hashlib
import os
import shutil
import stat
from pathlib import Path

from corral_schemas.checksum import crc32
from corral_schemas.errors import CorralError, error
from corral_schemas.files import ReadFileArgs, ReadFileReply, WriteFileArgs, WriteFileReply
from corral_worker.bundle_store.disk import check_space
from corral_worker.commands.execution import Execution
from corral_worker.containers.container_root import root_of
from corral_worker.containers.guest import Guest
from corral_worker.journal.records import ContainerRecord
from corral_worker.runtime.safe_path import open_in, open_parent, refused

NAME_IN_PLACE = ".corral-{}"
"""Of a file on its way into a container, until it is whole. The same for a repeat, so that nothing is left of a worker that was killed."""


async def read_file(guest: Guest, args: ReadFileArgs) -> ReadFileReply:
    container = guest.find_container(args.container, args.instance)
    return await asyncio.to_thread(_read, guest, container, args)


async def write_file(guest: Guest, args: WriteFileArgs, execution: Execution) -> WriteFileReply:
    container = guest.find_container(args.container, args.instance)
    if execution.record.instance != container.instance:
        execution.remember(container)
    try:
        uploaded = await guest.bundle_store.uploaded(args.content, args.size)
    except CorralError:
        if execution.redo and (path := await asyncio.to_thread(_is_there, guest, container, args)):  # done before the restart
            return WriteFileReply(path=path)
        raise
    await execution.recorded
    execution.check_not_cancelled()
    execution.begun = True
    path = await asyncio.to_thread(_write, guest, container, args, uploaded)
    await guest.bundle_store.drop_upload(args.content)
    return WriteFileReply(path=path)


def _read(guest: Guest, container: ContainerRecord, args: ReadFileArgs) -> ReadFileReply:
    try:
        with root_of(guest, container) as root:
            descriptor = open_in(root, args.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                return _part(descriptor, args)
            finally:
                os.close(descriptor)
    except OSError as why:
        raise refused(why, args.path) from why


def _part(descriptor: int, args: ReadFileArgs) -> ReadFileReply:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise error("bad_request", f"{args.path} is {_kind(found.st_mode)}: single files are copied", path=args.path[:300])
    # Not the device: that of a layer differs from one reading to the next.
    version = f"{found.st_ino:016x}-{found.st_size}-{found.st_mtime_ns}"
    if args.version and version != args.version:
        raise error("file_changed", f"{args.path} was changed while it was being read; read it from the beginning", path=args.path[:300])
    data = os.pread(descriptor, args.max_bytes, args.offset)
    return ReadFileReply(
        size=found.st_size,
        mode=found.st_mode & 0o7777,
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        version=version,
        data=data,
        crc=crc32(data),
    )


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket"


def _write(guest: Guest, container: ContainerRecord, args: WriteFileArgs, uploaded: Path) -> str:
    try:
        with root_of(guest, container) as root:
            parent, name, path = _place(root, args)
            try:
                _put(parent, name, args, uploaded)
            finally:
                os.close(parent)
            return path
    except OSError as why:
        raise refused(why, args.path) from why


def _is_there(guest: Guest, container: ContainerRecord, args: WriteFileArgs) -> str:
    """The file's path where it stands in its place already; empty where it does not."""
    try:
        with root_of(guest, container) as root:
            parent, _, path = _place(root, args)
            os.close(parent)
            with os.fdopen(open_in(root, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                return path if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == args.content else ""
    except OSError:
        return ""


def _place(root: int, args: WriteFileArgs) -> tuple[int, str, str]:
    """See open_parent. Raises bad_request, OSError."""
    if "/" in args.name or args.name in (".", ".."):
        raise error("bad_request", f"{args.name!r} is no name of a file")
    try:
        os.close(open_in(root, args.path, os.O_PATH | os.O_DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        if args.path.endswith("/"):
            raise
        found = open_parent(root, args.path)
    else:
        if not args.name:
            raise error("bad_request", f"{args.path} is a directory, and no name was given for the file in it", path=args.path[:300])
        found = open_parent(root, f"{args.path.rstrip('/')}/{args.name}")
    return found


def _put(parent: int, name: str, args: WriteFileArgs, uploaded: Path) -> None:
    """Beside its place first, under a name of its own, then in it by one rename. Raises bad_request, storage_full, OSError."""
    try:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISREG(there.st_mode):
            raise error("bad_request", f"{args.path} is {_kind(there.st_mode)}: only a file is replaced by one", path=args.path[:300])
    except FileNotFoundError:
        pass  # a new file
    check_space(Path(f"/proc/self/fd/{parent}"), args.size)
    aside = NAME_IN_PLACE.format(args.content[-16:])
    _unlink(parent, aside)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file, uploaded.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fchown(file.fileno(), args.uid, args.gid)
            os.fchmod(file.fileno(), args.mode)
            if args.mtime_ns is not None:
                os.utime(file.fileno(), ns=(args.mtime_ns, args.mtime_ns))
        os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        _unlink(parent, aside)
        raise


def _unlink(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
