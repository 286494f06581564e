"""The `corral` command as a person uses it: a real `corral up`, and a real terminal."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from corral_testkit.shim_driver import readable

CORRAL = [sys.executable, "-c", "from corral.cli.main import main; main()"]
PATIENCE_S = 30.0


@dataclass
class Up:
    """A running `corral up`, and the means to use it."""

    process: subprocess.Popen[str]
    directory: Path
    address: str
    rootfs: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CORRAL_BROKER": self.address, "XDG_CONFIG_HOME": str(self.directory / "config")}

    def corral(self, *args: object, stdin: str | bytes | None = None) -> "subprocess.CompletedProcess[str]":
        """Runs `corral ARGS` to its end; its stdin is empty unless given."""
        return self.corral_in(self.environment, *args, stdin=stdin)

    def corral_in(self, environment: dict[str, str], *args: object, stdin: str | bytes | None = None) -> "subprocess.CompletedProcess[str]":
        """The same in another environment."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*CORRAL, *map(str, args)], input=data or b"", capture_output=True, env=environment, timeout=PATIENCE_S, check=False
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def run(self, *args: object, guest: str = "g1", stdin: str | bytes | None = None) -> "subprocess.CompletedProcess[str]":
        """`corral run --guest GUEST --rootfs ROOTFS ARGS`"""
        return self.corral("run", "--guest", guest, "--rootfs", self.rootfs, *args, stdin=stdin)

    def background(self, *program: str, guest: str = "g1", flags: tuple[str, ...] = ()) -> str:
        """Starts a container in the background and gives GUEST/NAME."""
        done = self.run("-d", *flags, "--", *program, guest=guest)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start_argv(self, *args: object) -> list[str]:
        """The argument vector of `corral ARGS`."""
        return [*CORRAL, *map(str, args)]

    def until(self, true: "Callable[[], bool]") -> None:
        """Asks again until it is so."""
        until_s = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < until_s, "it never became so"
            time.sleep(0.05)  # between two questions

    def worker_pid(self, guest: str) -> int:
        """Process id of the guest's worker."""
        found = [pid for pid, line in processes_naming(str(self.directory)) if f"-m corral_worker --guest {guest} " in line]
        return found[0] if found else 0

    @staticmethod
    def maps_of(pid: int) -> bytes:
        """What a process has mapped: tells which libraries it has loaded."""
        return Path(f"/proc/{pid}/maps").read_bytes()

    def start(self, *args: object, **options: Any) -> Any:
        """Starts `corral ARGS`, to be talked to while it runs: a Popen (not said so, because the pipes asked for are there)."""
        return subprocess.Popen(self.start_argv(*args), env=self.environment, **options)


def start_up(directory: Path, rootfs: Path, *flags: str, guests: int = 2) -> Up:
    """Starts `corral up` below `directory` and returns once it is ready."""
    argv = [
        *CORRAL,
        "up",
        "--guests",
        str(guests),
        "--state-dir",
        str(directory / "s"),
        "--run-dir",
        str(directory / "r"),
        "-t",
        "1",
        *flags,
    ]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(directory / "config")}
    with (directory / "err").open("a") as log:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("corral up ready at ipc://"), (line, (directory / "err").read_text())
    return Up(process, directory, line.split()[4], rootfs)


def end_up(up: Up) -> int:
    """SIGTERM, and its status."""
    up.process.terminate()
    try:
        return up.process.wait(PATIENCE_S)
    finally:
        up.process.kill()
        up.process.wait()
        if up.process.stdout:
            up.process.stdout.close()


def processes_naming(text: str) -> list[tuple[int, str]]:
    """Process id and command line of each other process in whose command line `text` occurs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            if text in line:
                found.append((int(entry.name), line))
    return found


class Terminal:
    """`corral ARGS` on a pseudo-terminal that is its controlling terminal; what it shows is read with `expect`."""

    def __init__(
        self,
        *args: object,
        environment: dict[str, str],
        rows: int = 24,
        columns: int = 80,
        term: str = "xterm",
        hang_up: signal.Handlers = signal.SIG_DFL,
    ) -> None:
        """hang_up: what SIGHUP does when the command begins: whatever runs the tests may have been started with it ignored (nohup)."""
        argv = [*CORRAL, *map(str, args)]
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGHUP, hang_up)
            os.execve(argv[0], argv, {**environment, "TERM": term})
        self.resize(rows, columns)
        self.shown = b""
        self._status: int | None = None

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: bytes, within_s: float = 15.0) -> bytes:
        """Reads until `text` is shown (after what earlier calls have found), and gives everything up to and with it."""
        until_s = time.monotonic() + within_s
        while text not in self.shown:
            assert self._read(until_s - time.monotonic()), f"{text!r} did not come, only {self.shown!r}"
        found, separator, self.shown = self.shown.partition(text)
        return found + separator

    def end(self, within_s: float = 15.0) -> int:
        """Its exit status, once it has ended; what it still shows goes to `shown`."""
        until_s = time.monotonic() + within_s
        while self._read(until_s - time.monotonic()):
            continue
        _, raw = os.waitpid(self.pid, 0)
        self._status = os.waitstatus_to_exitcode(raw)
        return self._status

    def mode(self) -> list[object]:
        """The terminal's settings."""
        return list(termios.tcgetattr(self.master))

    def _read(self, patience_s: float) -> bool:
        """False at the end."""
        assert readable(self.master, patience_s), f"nothing more came; shown so far: {self.shown!r}"
        data = b""
        with contextlib.suppress(OSError):  # EIO: everybody has closed the terminal
            data = os.read(self.master, 1 << 16)
        self.shown += data
        return bool(data)
