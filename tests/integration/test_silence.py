"""Silence is no failure [25]: who reads, waits or is attached is served for as long as he likes, and across a restart of broker and worker.

`make test` spends 40 s on it, `make test-silence` 200 s: time that passes in silence costs no processor.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import corral
from corral_testkit.bundles import make_rootfs
from corral_testkit.cli import Terminal, Up, end_up, processes_naming, start_up

SILENCE_S = float(os.environ.get("CORRAL_SILENCE_S", "40"))
SHORT_SILENCE_S = 5.0
WAITS_FOR_NEWS = ["sh", "-c", 'trap "echo heard; kill $!; exit 3" USR1; sleep 100000 & wait']
"""Prints nothing until it gets SIGUSR1; then it says so and ends with 3."""


@pytest.fixture
def up() -> Iterator[Up]:
    """One guest, used by nobody else: what others ask would end the silence."""
    directory = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    running = start_up(directory, make_rootfs(directory / "rootfs"), guests=1)
    yield running
    status = end_up(running)
    left = processes_naming(str(directory))
    shutil.rmtree(directory)
    assert (status, left) == (0, [])


class Readers:
    """Everyone who can be told something of a process, each of one that is silent."""

    def __init__(self, up: Up, client: corral.Client, open_: ExitStack) -> None:
        self._up, self._client = up, client
        self._on_disk = ("run", "--guest", "g1", "--rootfs", up.rootfs)
        for name in ("by-exec", "by-logs"):
            up.background(*WAITS_FOR_NEWS, flags=("--name", name))
        self.programs: dict[str, subprocess.Popen[bytes]] = {
            "run": self._start(*self._on_disk, "--name", "by-run", "--", *WAITS_FOR_NEWS),
            "exec": self._start("exec", "--process", "e", "g1/by-exec", *WAITS_FOR_NEWS),
            "logs": self._start("logs", "-f", "by-logs"),
            "wait": self._start("wait", "g1/by-logs"),
            "attach": self._start("attach", "--no-stdin", "g1/by-logs"),
        }
        self.shell = open_.enter_context(Terminal(*self._on_disk, "-it", "--name", "by-shell", "--", "sh", environment=up.environment))
        self.shell.expect(b"# ")
        threads = open_.enter_context(ThreadPoolExecutor(1))
        self.called = threads.submit(client.run, "g1", WAITS_FOR_NEWS, rootfs=str(up.rootfs))
        up.until(lambda: len(self._running()) == 5 and self._has_exec())

    def _start(self, *args: object) -> subprocess.Popen[bytes]:
        started: subprocess.Popen[bytes] = self._up.start(*args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return started

    def _running(self) -> list[corral.ContainerState]:
        return [state for state in self._client.list().containers if state.status == "running"]

    def _has_exec(self) -> bool:
        return any(process.process == "e" and process.pid for state in self._running() for process in state.processes)

    def are_served(self) -> bool:
        return not self.called.done() and all(program.poll() is None for program in self.programs.values())

    def stay_through(self, seconds: float) -> None:
        """Nothing comes; nobody leaves."""
        with pytest.raises(subprocess.TimeoutExpired):
            self.programs["run"].wait(seconds)
        assert self.are_served(), [program.communicate() for program in self.programs.values() if program.poll() is not None]

    def tell(self) -> dict[str, tuple[int, bytes]]:
        """Ends the silence of every process; status and output of each reader."""
        guest = self._client.guest("g1")
        guest.container("by-exec").process("e").kill(signal.SIGUSR1)
        for state in self._running():
            if state.id not in ("by-exec", "by-shell"):
                guest.container(state.id).kill(signal.SIGUSR1)
        told = {name: (program.wait(20), program.stdout.read() if program.stdout else b"") for name, program in self.programs.items()}
        for program in self.programs.values():
            program.communicate()
        done = self.called.result(20)
        self.shell.type(b"echo heard$((2 + 3))\nexit 3\n")
        self.shell.expect(b"heard5")
        return {**told, "client.run": (done.returncode, done.stdout), "shell": (self.shell.end(), b"heard\n")}


@pytest.mark.runc
@pytest.mark.guarantee(25)
@pytest.mark.timeout(SILENCE_S + 100)
def test_whoever_reads_or_waits_is_served_through_silence_and_a_restart_of_broker_and_worker(up: Up) -> None:
    with ExitStack() as open_, corral.Client(up.address) as client:
        readers = Readers(up, client, open_)
        readers.stay_through(SILENCE_S)
        assert "replies_unmatched" not in client.info().counters
        for part in ("-m corral_broker", "-m corral_worker"):
            (pid,) = (pid for pid, line in processes_naming(str(up.directory)) if part in line)
            os.kill(pid, signal.SIGKILL)
            up.until(lambda gone=pid: gone not in [one for one, _ in processes_naming(str(up.directory))])  # type: ignore[misc]
            up.until(lambda: any(info.up for info in client.guests()))
        readers.stay_through(SHORT_SILENCE_S)
        told = readers.tell()
        assert told == {
            **dict.fromkeys(("run", "exec", "attach", "client.run", "shell"), (3, b"heard\n")),
            "logs": (0, b"heard\n"),
            "wait": (0, b"3\n"),
        }
        assert "replies_unmatched" not in client.info().counters
