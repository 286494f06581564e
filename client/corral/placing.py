"""Files put where a person named them: through links, into pipes and devices, and otherwise whole or not at all.

Whatever is no plain file stays what it is. A file with several names, and one that is mounted by itself, keep being those: they are
written into, since a rename would leave the other names with what was there before.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LINKS_MAX = 40
"""Links followed one after the other: the kernel's own limit."""
NAME_CHARS_MAX = 40
_DESCRIPTOR = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd/(\d+)")


class Placing:
    """A file to be filled (`file`), and then to be put in its place or dropped."""

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        """`mode` is that of a new file, less the umask. Raises OSError where the path can hold no file."""
        with contextlib.suppress(FileNotFoundError):  # it is to be made
            os.stat(path)  # noqa: PTH116  # the kernel's own rules for links of other people in /tmp count here too
        self.path = end_of_links(path)
        self._there = _stat(self.path)
        self._beside: Path | None = None
        """The name by which it moves into its place; None where it is poured into what is there."""
        self._aside: Path | None = None
        """The same, once the file has that name."""
        if self._there is not None and stat.S_ISDIR(self._there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self.file: IO[bytes] = self._file_beside(mode) if self._may_be_replaced() else _file_apart()

    @property
    def waits(self) -> bool:
        """Putting it in place can wait for somebody: a pipe's reader, a terminal."""
        return self._there is not None and not self._is_plain()

    def put(self, *, sync: bool = False) -> None:
        """Raises OSError."""
        self.file.flush()
        if self._beside is None:
            self._pour()
            return
        if sync:
            os.fsync(self.file.fileno())
        try:
            self._move(self._beside)
        except OSError as why:
            if why.errno != errno.EBUSY:
                raise
            self._pour()  # a mount is at this very path
        if sync:
            _sync_directory(self.path.parent)

    def close(self) -> None:
        """Drops it where it was not put in its place."""
        self.file.close()
        if self._aside is not None:
            self._aside.unlink(missing_ok=True)
            self._aside = None

    def _move(self, beside: Path) -> None:
        """Into its place, by way of a name beside it: a rename replaces what is there, a link does not."""
        if self._aside is None:
            directory = os.open(beside.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.link(f"/proc/self/fd/{self.file.fileno()}", beside.name, dst_dir_fd=directory, follow_symlinks=True)
            finally:
                os.close(directory)
            self._aside = beside
        self._aside.replace(self.path)
        self._aside = None

    def _is_plain(self) -> bool:
        return self._there is not None and stat.S_ISREG(self._there.st_mode) and not _DESCRIPTOR.fullmatch(str(self.path))

    def _may_be_replaced(self) -> bool:
        return self._there is None or (self._is_plain() and self._there.st_nlink == 1)

    def _file_beside(self, mode: int) -> IO[bytes]:
        beside = self.path.with_name(f".{self.path.name[:NAME_CHARS_MAX]}.{secrets.token_hex(4)}")
        try:
            descriptor = self._opened_beside(beside, mode)
        except OSError as why:
            if self._there is None or why.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return _file_apart()  # a file of ours in a directory that is not
        self._beside = beside
        if self._there is not None:
            with contextlib.suppress(OSError):  # only root may; for all others it is their own anyway
                os.fchown(descriptor, self._there.st_uid, self._there.st_gid)
        return os.fdopen(descriptor, "w+b")

    def _opened_beside(self, beside: Path, mode: int) -> int:
        """Without a name where the file system can: then nothing is left, however the program ends."""
        try:
            os.stat("/proc/self/fd")  # noqa: PTH116  # by way of it the file gets its name
            return os.open(beside.parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode)
        except OSError as why:
            if why.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        self._aside = beside
        return descriptor

    def _pour(self) -> None:
        """Into what is there, from where an open descriptor stands or from the beginning."""
        self.file.seek(0)
        with os.fdopen(self._opened(), "wb") as goal:
            if self._is_plain():
                goal.truncate(0)
            shutil.copyfileobj(self.file, goal, 1 << 20)

    def _opened(self) -> int:
        ours = _DESCRIPTOR.fullmatch(str(self.path))
        if ours is not None and int(ours[1]) == os.getpid():
            return os.dup(int(ours[2]))  # with the place at which it stands, as /dev/stdout behind `>>` or in a group of commands
        return os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)


@contextlib.contextmanager
def placed(path: Path, mode: int = 0o666, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to be filled, which is in its place after the block; nothing has changed where the block raises. Raises OSError."""
    placing = Placing(path, mode)
    try:
        yield placing.file
        placing.put(sync=sync)
    finally:
        placing.close()


def end_of_links(path: Path) -> Path:
    """The path that links lead to, whether something is there or not. An open descriptor below /proc is an end. Raises OSError."""
    for _ in range(LINKS_MAX):
        path = Path(os.path.realpath(path.parent)) / path.name
        if _DESCRIPTOR.fullmatch(str(path)) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _file_apart() -> IO[bytes]:
    return tempfile.TemporaryFile()  # closed by whom the Placing belongs to


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
