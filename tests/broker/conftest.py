"""Brokers as processes of their own, in short private directories (a Unix socket's path is short)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral_testkit.wire_peers import RawClient

TESTS = Path(__file__).parents[1]
READY = "corral broker ready at "


class BrokerProcess:
    """A started broker."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "corral_broker", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(READY), f"{line!r}, {self.end(signal.SIGKILL)}"
        self.address = line.removeprefix(READY).strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signals it and returns its exit status and what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, log = self.process.communicate(timeout=20)
        return self.process.returncode, log


@pytest.fixture
def short_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="crl"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def start_broker() -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers that end with the test, without a trace of trouble in their logs."""
    started: list[BrokerProcess] = []

    def start(*arguments: str) -> BrokerProcess:
        started.append(BrokerProcess(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            status, log = one.end()
            assert status == 0, log
            assert "Traceback" not in log, log


@pytest.fixture
def broker(start_broker: Callable[..., BrokerProcess], short_dir: Path) -> BrokerProcess:
    return start_broker("--bind", f"ipc://{short_dir}/b")


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[RawClient]:
    with RawClient(broker.address) as made:
        yield made


@pytest.fixture
def start_worker() -> Iterator[Callable[[str, str], "subprocess.Popen[str]"]]:
    """Starts workers as processes that answer every command; returns once they are registered."""
    started: list[subprocess.Popen[str]] = []

    def start(address: str, guest: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(TESTS / "corral_testkit" / "wire_peers.py"), address, guest]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)})
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "registered\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)
