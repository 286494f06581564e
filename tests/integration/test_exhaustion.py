"""No descriptor is left for a worker, a zygote or a shim: commands are answered with the reason, no container is the worse."""

from __future__ import annotations

import itertools
import os
import resource
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corral import CorralError
from corral_schemas.limits import LABELS_BYTES_MAX
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc
NewCorral = Callable[..., CorralSystem]
FEW = 4
OF_THE_C_LIBRARY = 1 << 32 - 1 | 1 << 33 - 1
"""Signals that it has for itself: glibc's posix_spawn leaves them ignored in the child."""


@contextmanager
def left_with(pid: int, more: int) -> Iterator[None]:
    """Leaves a process that many descriptors beside those that it has open."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    lowest_free = next(number for number in itertools.count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free + more, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.guarantee(2)
def test_a_worker_short_of_descriptors_says_so_to_each_command_and_harms_no_container(new_corral: NewCorral) -> None:
    system = new_corral()
    (name,) = system.names
    guest = system.client(timeout_s=20).guest(name)
    kept = guest.run("kept", spec=system.spec("sleep", "1000"))
    outcomes: dict[str, str] = {}
    with left_with(system.workers[name].pid, FEW):
        for number in range(2 * FEW):
            try:
                guest.run(f"c{number}", spec=system.spec("sleep", "1000"))
            except CorralError as why:
                outcomes[f"c{number}"] = why.code
        assert kept.state().status == "running"
    assert set(outcomes.values()) == {"resource_exhausted"}, outcomes
    there = {one.id: one.status for one in guest.list().containers}
    assert there == {"kept": "running", **{f"c{number}": "running" for number in range(2 * FEW) if f"c{number}" not in outcomes}}
    assert guest.run("after", spec=system.spec("sh", "-c", "exit 3")).wait().code == 3


@pytest.mark.guarantee(16)
def test_a_worker_that_starts_short_of_descriptors_ends_with_the_reason_and_containers_run_on(new_corral: NewCorral) -> None:
    system = new_corral()
    (name,) = system.names
    guest = system.client(timeout_s=20).guest(name)
    containers = [guest.run(f"c{number}", spec=system.spec("sleep", "1000")) for number in range(8)]
    worker = system.workers[name]
    argv = [word.decode() for word in Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    worker.kill()
    ended = subprocess.run(["prlimit", "--nofile=14:14", *argv], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 1 and "raise the limit" in ended.stderr, ended.stderr
    system.restart_worker(name)
    assert [one.state().status for one in containers] == ["running"] * 8


def test_a_zygote_without_descriptors_lets_connections_wait_and_takes_them_when_it_has_some_again(new_corral: NewCorral) -> None:
    system = new_corral()
    (name,) = system.names
    zygote = system.zygote_pid(name)
    assert zygote is not None
    log = system.run_dir(name) / "zygote.log"
    assert system.client(timeout_s=20).guest(name).run("first", spec=system.spec("true")).wait().code == 0
    wait_until(lambda: not (system.run_dir(name) / "rehearsal").exists(), "the zygote has warmed up")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        with left_with(zygote, 0):
            connection.connect(str(system.run_dir(name) / "zygote.sock"))
            wait_until(lambda: "a connection waits" in log.read_text(), "it has seen the connection")
        taken_when = len(os.listdir(f"/proc/{zygote}/fd")) + 1  # noqa: PTH208
        wait_until(lambda: len(os.listdir(f"/proc/{zygote}/fd")) == taken_when, "it has taken the connection")  # noqa: PTH208
    assert log.read_text().count("a connection waits") < 5, "it turned in circles"


def test_a_container_does_not_inherit_ignored_signals_from_who_started_the_worker(new_corral: NewCorral) -> None:
    numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        system = new_corral()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    guest = system.client(timeout_s=20).guest(system.names[0])
    shows = ["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]
    container = guest.run("c", spec=system.spec("sh", "-c", f"{shlex.join(shows)}; sleep 1000"))
    lines = container.init.stdout.lines()
    of_init = b"\n".join(next(lines) for _ in range(2))
    for shown in (of_init, container.exec(shows).stdout.read()):
        blocked, ignored = (int(line.split()[1], 16) for line in shown.splitlines())
        assert (blocked, ignored & ~OF_THE_C_LIBRARY) == (0, 0), shown


def test_labels_that_no_broker_takes_end_the_worker_with_the_reason(new_corral: NewCorral) -> None:
    system = new_corral()
    (name,) = system.names
    argv = [word.decode() for word in Path(f"/proc/{system.workers[name].pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    for labels, reason in (
        ([f"--label=k{number}={'v' * 1000}" for number in range(40)], f"{LABELS_BYTES_MAX} at most"),
        ([f"--label=k{number}=v" for number in range(65)], "at most 64"),
    ):
        ended = subprocess.run([*argv, *labels], capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 1 and reason in ended.stderr, ended.stderr
