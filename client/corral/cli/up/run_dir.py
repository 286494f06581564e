"""The directory that one `corral up` runs in: its lock, and the address file by which every command finds the broker."""

import fcntl
import os
import stat
from pathlib import Path

from corral.cli.text.failures import Failed
from corral.placing import end_of_links, placed
from corral_schemas.private_directories import why_not_private

LOCK_NAME = "up.lock"
SOCKET_NAME = "broker.sock"


def default_state_dir() -> Path:
    """/var/lib/corral for root, else corral in the user's state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/corral")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "corral"


def default_run_dir() -> Path:
    """/run/corral for root, else corral in $XDG_RUNTIME_DIR: where the library looks for the address file."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path("/run/corral") if os.geteuid() == 0 or not runtime else Path(runtime) / "corral"


def is_at_work(address: str) -> bool:
    """Whether an `up` that announced this address still runs, or may do."""
    socket = Path(address.removeprefix("ipc://"))
    if not address.startswith("ipc://") or socket.name != SOCKET_NAME:
        return True  # none of ours, whatever it is
    try:
        descriptor = os.open(socket.parent / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # of another user, say
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_ours(directory: Path) -> None:
    """Raises Failed where a directory is there in which somebody else could exchange ours, OSError.

    In a sticky one, as /tmp, nobody can; broker and workers look at their own directories themselves.
    """
    try:
        there, target = directory.lstat(), directory.stat()
    except FileNotFoundError:  # it is to be made
        return
    mode = 0 if target.st_mode & stat.S_ISVTX else target.st_mode
    if why := why_not_private(str(directory), (there.st_uid, target.st_uid), mode, os.geteuid()):
        raise Failed(why, hint="give --run-dir and --state-dir")


class RunDir:
    """Holds the lock of a run directory from `take` to `leave`."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._lock = -1
        self._lock_path = run_dir / LOCK_NAME
        self._address_path = run_dir / "address"

    def take(self) -> None:
        """Makes the directory, private to its owner. Raises Failed where another `up` is at it, or it cannot be used."""
        try:
            self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_ours(self.run_dir)
            self.run_dir.chmod(0o700)
            while not self._locked():
                continue
        except OSError as why:
            raise Failed(
                f"{self.run_dir} cannot be used: {why.strerror or why}", hint="run as root, or give --run-dir and --state-dir"
            ) from why

    def _locked(self) -> bool:
        """False where the file that we locked was removed by its former owner in between."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise Failed(
                f"corral up is at work here already (pid {owner or 'unknown'}, {self.run_dir})",
                hint="another one needs its own --run-dir and --state-dir",
            ) from None
        try:
            current = self._lock_path.stat().st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            current = False
        if not current:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor
        return True

    def announce(self, address: str) -> None:
        """Writes the address file, whole or not at all; one that was left behind is replaced."""
        with placed(self._address_path, 0o600) as file:
            file.write(f"{address}\n".encode())

    def leave(self) -> None:
        """Removes address file and lock."""
        if self._lock < 0:
            return
        end_of_links(self._address_path).unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1
