"""A broker and workers as a user has them: processes of their own, in private directories, ended by their pids."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_S_MAX = 20.0
STOP_S_MAX = 15.0


class FleetError(Exception):
    """A broker or worker did not start; the text says what it printed."""


class Daemon:
    """One process that says on stdout when it is ready."""

    def __init__(self, argv: list[str], log: Path, *, environment: dict[str, str] | None = None, own_session: bool = True) -> None:
        """Returns once it is ready. Raises FleetError.

        A session of its own, as a service has it, is a scheduler group of its own where there are autogroups (sched(7)).
        """
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                argv,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=own_session,
                process_group=None if own_session else 0,
                env={**os.environ, **(environment or {})},
            )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S_MAX)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise FleetError(f"{' '.join(argv)} did not start: {log.read_text()[-2000:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it, with SIGKILL if it must be."""
        with contextlib.suppress(ProcessLookupError):  # it ended before
            os.kill(self.pid, number)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Fleet:
    """Use as a context manager. `address` is the broker's; worker gN has its state in `directory`/sN. At the end all of it is removed."""

    def __init__(
        self, directory: Path, *, guests: int = 1, durability: str = "power", runtime: str = "runc", worker_arguments: tuple[str, ...] = ()
    ) -> None:
        self._directory, self._guests = directory, guests
        self._options = ["--durability", durability, "--runtime", runtime, *worker_arguments]
        self.address = f"ipc://{directory}/b.sock"
        self.broker: Daemon | None = None
        self.workers: dict[str, Daemon] = {}

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self.broker = self._broker()
            for number in range(1, self._guests + 1):
                self.workers[f"g{number}"] = self._worker(number)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def state_dir(self, guest: str) -> Path:
        """Where a guest keeps its journal and spools."""
        return self._directory / f"s{guest[1:]}"

    def run_dir(self, guest: str) -> Path:
        """Where a guest keeps its sockets."""
        return self._directory / f"r{guest[1:]}"

    def close(self) -> None:
        """Ends the workers, their zygotes and shims, and the broker."""
        for worker in self.workers.values():
            worker.stop()
        for pid in self.pids_below():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        self.workers.clear()
        if self.broker is not None:
            self.broker.stop()
            self.broker = None
        shutil.rmtree(self._directory)  # a row may have left gigabytes

    def pids_below(self) -> list[int]:
        """Zygotes and shims of this fleet: those that hold a socket below its directory."""
        return keepers_below(self._directory)

    def shims(self) -> list[int]:
        """The pids of its shims."""
        return [pid for pid in self.pids_below() if b"corral-shim" in _command_line(pid)]

    def wait_for_shims(self, count: int, timeout_s: float = 10.0) -> list[int]:
        """Its shims, once there are so many. Raises FleetError."""
        until_s = time.monotonic() + timeout_s
        while len(found := self.shims()) != count:
            if time.monotonic() > until_s:
                raise FleetError(f"{len(found)} shims in place of {count}")
            time.sleep(0.02)
        return found

    def restart_broker(self) -> None:
        """kill -9, and a new one at the same address. Raises FleetError."""
        if self.broker is not None:
            self.broker.stop(signal.SIGKILL)
        self.broker = self._broker()

    def _broker(self) -> Daemon:
        return Daemon([sys.executable, "-m", "corral_broker", "--bind", self.address], self._directory / "broker.log")

    def _worker(self, number: int) -> Daemon:
        guest = f"g{number}"
        argv = [sys.executable, "-m", "corral_worker", "--guest", guest, "--broker", self.address]
        argv += ["--state-dir", str(self.state_dir(guest)), "--run-dir", str(self.run_dir(guest)), *self._options]
        return Daemon(argv, self._directory / f"worker-{guest}.log")


def keepers_below(directory: Path) -> list[int]:
    """Zygotes and shims that hold a socket below a directory."""
    return [pid for pid in _pids() if _holds_socket_below(pid, str(directory))]


def daemons_below(directory: Path) -> list[int]:
    """Brokers and workers that were started with a path below a directory."""
    return [pid for pid in _pids() if b"corral_" in (line := _command_line(pid)) and f"{directory}/".encode() in line]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _holds_socket_below(pid: int, directory: str) -> bool:
    """By the title (corral-shim, corral-zygote) first, since looking at every process's sockets takes long."""
    if b"corral-shim" not in _command_line(pid) and b"corral-zygote" not in _command_line(pid):
        return False
    return any(line in _socket_inodes(pid) for line in _inodes_below(directory))


def _inodes_below(directory: str) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return [row[6] for row in rows if len(row) > 7 and row[7].startswith(directory + "/")]


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it ended meanwhile
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # the descriptor was closed meanwhile
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
