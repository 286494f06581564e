"""What the store asks of the guest's disk. Everything here may block: it runs in threads."""

import ctypes
import os
import stat
from pathlib import Path

from corral_schemas.errors import CorralError, error
from corral_schemas.limits import BUNDLE_DISK_RESERVE_BYTES
from corral_worker.shim.base.linux import is_exhausted

_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4  # sync_file_range(2)
_libc = ctypes.CDLL(None, use_errno=True)


def free_bytes(directory: Path) -> int:
    """What may still be written there, less the reserve that exits and the journal need."""
    found = os.statvfs(directory)
    return max(0, found.f_bavail * found.f_frsize - BUNDLE_DISK_RESERVE_BYTES)


def check_space(directory: Path, needed: int) -> None:
    """Raises storage_full."""
    free = free_bytes(directory)
    if needed > free:
        raise error("storage_full", f"{needed} bytes are needed, {free} are free in {directory}", needed=needed, free=free)


def storage_error(why: OSError, what: str) -> CorralError:
    """The error for a write that the disk refused, or for which no descriptor or memory was left."""
    code = "resource_exhausted" if is_exhausted(why) else "storage_full"
    return error(code, f"{what}: {why.strerror or why}", errno=why.errno or 0)


def raise_exhausted(why: Exception) -> None:
    """Raises it again where only descriptors or memory were short: what is on the disk may be whole, and must not be taken for broken."""
    if isinstance(why, OSError) and is_exhausted(why):
        raise why


def sync_filesystem(descriptor: int) -> None:
    """syncfs(2): all that was written to that file system is on disk then, by one commit for any number of files. Raises OSError."""
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Has the kernel begin to write these bytes to the disk, without waiting: sync_file_range(2). A hint: no error matters."""
    _libc.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size), _WRITE)


def write_out(descriptor: int, offset: int, size: int) -> None:
    """The same, and waits until they are written. Nothing to rely on: what a power cut must not take wants a real sync afterwards."""
    _libc.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size), _WAIT_BEFORE | _WRITE | _WAIT_AFTER)


def remove_tree(directory: Path) -> int:
    """Removes a tree without following any link in it; → bytes of disk freed. What is gone already is no failure. Raises OSError."""
    freed = 0
    for _, directories, files, descriptor in os.fwalk(directory, topdown=False, follow_symlinks=False):
        for name in files:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if found.st_nlink == 1:
                freed += found.st_blocks * 512
            os.unlink(name, dir_fd=descriptor)
        for name in directories:
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=descriptor)
            else:
                os.rmdir(name, dir_fd=descriptor)
    if directory.exists():
        directory.rmdir()
    return freed
