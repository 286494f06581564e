"""The examples, as people run them, on real guests."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral_testkit.system import CorralSystem

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


def environment(corral: CorralSystem) -> dict[str, str]:
    return {**os.environ, "CORRAL_BROKER": corral.address, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def until(true: Callable[[], bool], within_s: float = 30) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it never became so"
        time.sleep(0.02)  # between two looks


def roll(corral: CorralSystem, version: str, health: str) -> "subprocess.CompletedProcess[str]":
    flags = ["--rootfs", str(corral.rootfs), "--health", health, "--patience", "3", "--window", "1"]
    argv = [
        sys.executable,
        str(EXAMPLES / "rolling_restart.py"),
        "all",
        "app",
        version,
        *flags,
        "--",
        "sh",
        "-c",
        "touch /tmp/ready; sleep 1000",
    ]
    return subprocess.run(argv, capture_output=True, text=True, env=environment(corral), timeout=90, check=False)


def names(corral: CorralSystem) -> set[str]:
    return {f"{state.guest}/{state.id}" for state in corral.client().list().containers if state.status == "running"}


def test_a_rolling_restart_moves_every_guest_and_rolls_back_where_the_new_one_is_not_healthy(corral: CorralSystem) -> None:
    done = roll(corral, "v1", "test -e /tmp/ready")
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(corral) == {f"{guest}/app-v1" for guest in corral.names}
    done = roll(corral, "v2", "test -e /tmp/ready")
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(corral) == {f"{guest}/app-v2" for guest in corral.names}
    done = roll(corral, "v3", "false")
    assert done.returncode == 1
    assert "rolled back: not healthy after 3 s" in done.stdout
    assert "left alone" in done.stdout
    assert names(corral) == {f"{guest}/app-v2" for guest in corral.names}


def test_exits_are_in_the_table_once_though_the_consumer_is_killed(corral: CorralSystem, tmp_path: Path) -> None:
    database = tmp_path / "exits.sqlite"
    argv = [sys.executable, str(EXAMPLES / "exits_to_sqlite.py"), str(database)]

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(argv, env=environment(corral), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        return process

    def rows() -> list[tuple[str, int]]:
        with sqlite3.connect(database) as reading:
            found = reading.execute("select container, status from exits where container like 'counted-%' order by container").fetchall()
        reading.close()
        return found

    def run(number: int) -> None:
        guest = corral.client().guest(corral.names[number % 2])
        guest.run(f"counted-{number}", spec=corral.spec("sh", "-c", f"exit {number}"), auto_delete=True).wait()

    process = start()
    for number in range(3):
        run(number)
    until(lambda: len(rows()) >= 2)
    process.kill()
    process.communicate()
    for number in range(3, 6):
        run(number)  # while nobody listens
    process = start()
    run(6)
    until(lambda: len(rows()) == 7)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert rows() == [(f"counted-{number}", number) for number in range(7)]


def test_the_batch_script_takes_every_checksum_once(corral: CorralSystem, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub dir").mkdir(parents=True)
    tmp_path.chmod(0o755)
    for number in range(9):
        (data / "sub dir" / f"file {number}").write_text(f"content {number}\n")
    argv = [str(EXAMPLES / "checksums.sh"), str(corral.rootfs), str(data), str(tmp_path / "run")]
    for _ in range(2):  # the second time there is nothing left to do
        done = subprocess.run(argv, capture_output=True, text=True, env=environment(corral), cwd=tmp_path, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        sums = [hashlib.sha256(b"content %d\n" % number).hexdigest() for number in range(9)]
        expected = [f"{total}  ./sub dir/file {number}" for number, total in enumerate(sums)]
        assert done.stdout.splitlines() == expected
