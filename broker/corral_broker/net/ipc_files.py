"""The files of an ipc address: a private directory, stale sockets cleared away, a live broker's left alone."""

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from corral_broker.state.addresses import SUFFIXES, BindError

LOCK_SUFFIX = ".lock"


class IpcFiles:
    """Holds the right to an ipc path, by a lock on a file beside it that also tells the holder's pid."""

    def __init__(self, path: str) -> None:
        """Makes the directory (0700) if it is missing. Raises BindError when the path is somebody else's."""
        self._path = Path(path)
        self._lock_path = Path(path + LOCK_SUFFIX)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self._lock_path)
        except OSError as why:
            raise BindError(f"cannot use {path}: {why.strerror or why}") from why
        try:
            for suffix in SUFFIXES.values():
                _clear(Path(path + suffix))
        except (BindError, OSError) as why:
            self._unlock()
            if isinstance(why, OSError):
                raise BindError(f"cannot use {path}: {why.strerror or why}") from why
            raise

    def release(self) -> None:
        """Removes the sockets' files and the lock. Safe to call again."""
        if self._lock < 0:
            return
        for suffix in SUFFIXES.values():
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Files made inside are for their owner only from the moment they exist (the umask is the process's: only while starting)."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _lock(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as why:
            pid = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise BindError(f"address in use: a broker with pid {pid or 'unknown'} holds {path}") from why
        if _is_still(lock, path):
            os.truncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
            return lock
        os.close(lock)  # its holder ended and removed it between our open and our lock


def _is_still(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(f"cannot use {path}: something that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise BindError(f"address in use: something listens at {path}")
