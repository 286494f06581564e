"""Paths inside a container's file system, from outside: whatever its links say, none leads out.

The kernel resolves them (openat2(2) with RESOLVE_IN_ROOT), as it would for a process whose root that directory is; absolute links and `..`
end at that root, and links of /proc that lead elsewhere are refused. Needs Linux 5.6.
"""

import ctypes
import errno
import os
import struct

from corral_schemas.errors import CorralError, error

_OPENAT2 = 437
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10
_LINKS_MAX = 40
"""As many as the kernel follows."""
_libc = ctypes.CDLL(None, use_errno=True)

_WHY = {
    errno.ENOENT: ("file_not_found", "is not there"),
    errno.ENOTDIR: ("file_not_found", "has something else than a directory on its way"),
    errno.ELOOP: ("bad_request", "goes in circles, or by a link that leads out of the container"),
    errno.EXDEV: ("bad_request", "goes by a link that leads out of the container"),
    errno.EROFS: ("bad_request", "is on a read-only file system of the container"),
    errno.ENAMETOOLONG: ("bad_request", "is too long"),
    errno.EISDIR: ("bad_request", "is a directory"),
    errno.EBUSY: ("bad_request", "is a mount in the container and cannot be replaced"),
    errno.ETXTBSY: ("bad_request", "is a program that runs"),
    errno.ENOSPC: ("storage_full", "does not fit"),
    errno.EDQUOT: ("storage_full", "does not fit"),
    errno.EFBIG: ("storage_full", "does not fit"),
}


def open_in(root: int, path: str, flags: int) -> int:
    """A descriptor of `path` below the directory `root`. Raises OSError."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _NO_MAGICLINKS | _IN_ROOT)
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    found = int(_libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_long(root), ctypes.c_char_p(encoded), how, ctypes.c_long(len(how))))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def open_parent(root: int, path: str) -> tuple[int, str, str]:
    """(descriptor of the directory a file is or would be in, its name there, its path without links at its end). Raises OSError.

    A link at the end of the path is followed too, also one that leads to nothing yet.
    """
    for _ in range(_LINKS_MAX):
        directory, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        parent = open_in(root, directory or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError as why:
            if why.errno in (errno.EINVAL, errno.ENOENT):  # no link, or nothing
                return parent, name, f"{directory}/{name}"
            os.close(parent)
            raise
        os.close(parent)
        path = target if target.startswith("/") else f"{directory}/{target}"
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def refused(why: OSError, path: str) -> CorralError:
    """What a failure on a path in a container is to whoever asked."""
    code, text = _WHY.get(why.errno or 0, ("runtime_failed", why.strerror or str(why)))
    return error(code, f"{path} {text}", path=path[:300])
