"""A real `corral up` for the tests of the command line: two guests, real runc, in directories of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral_testkit.bundles import make_rootfs

CORRAL = [sys.executable, "-c", "from corral.cli.main import main; main()"]
PATIENCE_S = 30


@dataclass
class Up:
    """A running `corral up`, and the means to use it."""

    process: subprocess.Popen[str]
    directory: Path
    address: str
    rootfs: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CORRAL_BROKER": self.address}

    def corral(self, *args: object, stdin: str | bytes | None = None) -> "subprocess.CompletedProcess[str]":
        """Runs `corral ARGS` to its end; its stdin is empty unless given."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*CORRAL, *map(str, args)], input=data or b"", capture_output=True, env=self.environment, timeout=PATIENCE_S, check=False
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

    def start(self, *args: object, **options: object) -> "subprocess.Popen[bytes]":
        """Starts `corral ARGS`, to be talked to while it runs."""
        return subprocess.Popen([*CORRAL, *map(str, args)], env=self.environment, **options)  # type: ignore[call-overload,no-any-return]


def start_up(directory: Path, rootfs: Path, *flags: str, guests: int = 2) -> Up:
    """Starts `corral up` below `directory` and returns once it is ready."""
    argv = [*CORRAL, "up", "--guests", str(guests), "--state-dir", str(directory / "s"), "--run-dir", str(directory / "r"), "-t", "1", *flags]
    with (directory / "err").open("a") as log:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
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


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="cli-rootfs-"))
    yield make_rootfs(directory / "rootfs") or directory / "rootfs"
    shutil.rmtree(directory)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory with a path so short that sockets fit below it."""
    directory = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def up(rootfs: Path) -> Iterator[Up]:
    """Shared by all tests that do not end it; each uses names of its own."""
    directory = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    running = start_up(directory, rootfs)
    yield running
    status = end_up(running)
    left = processes_naming(str(directory))
    shutil.rmtree(directory)
    assert status == 0
    assert left == []


def processes_naming(text: str) -> list[str]:
    """Command lines of processes in which `text` occurs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            if text in line:
                found.append(line)
    return found
