"""A worker that cannot start says so in one clear line and exits 1; one that can is not put off by what an earlier one left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral_testkit.remains import processes_at
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem
from corral_worker.shim.base.wire import VERSION, FrameReader, encode

pytestmark = pytest.mark.runc

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private directory with a short path: socket paths have an end."""
    directory = Path(tempfile.mkdtemp(prefix="corral-", dir="/tmp"))
    yield directory
    wait_until(lambda: not processes_at(directory), "a zygote that was started ends", 10.0)
    shutil.rmtree(directory)


@pytest.fixture
def start(short_dir: Path) -> Start:
    """Starts a worker that is expected to give up by itself."""

    def started(*options: str, **more: str) -> subprocess.CompletedProcess[str]:
        places = {"guest": "g1", "broker": f"ipc://{short_dir}/b", "state-dir": f"{short_dir}/state", "run-dir": f"{short_dir}/run"}
        named = [f"--{name}={value}" for name, value in {**places, **more}.items()]
        return subprocess.run([sys.executable, "-m", "corral_worker", *named, *options], capture_output=True, text=True, timeout=20)

    return started


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line it ended with."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("corral worker: ")
    return line


def test_a_runtime_that_is_missing(start: Start, short_dir: Path) -> None:
    line = said(start("--runtime", "/no/such/runc"))
    assert "runtime_unavailable" in line and "/no/such/runc" in line and "is not there" in line and "apt-get install runc" in line
    assert not (short_dir / "state").exists()


def test_a_runtime_that_is_not_executable(start: Start, short_dir: Path) -> None:
    (short_dir / "runc").write_text("#!/bin/sh\n")
    assert "is not executable" in said(start("--runtime", str(short_dir / "runc")))


@pytest.mark.parametrize("content", ["not a program", "#!/bin/sh\nexit 3\n"])
def test_a_runtime_that_does_not_work(start: Start, short_dir: Path, content: str) -> None:
    (short_dir / "runc").write_text(content)
    (short_dir / "runc").chmod(0o755)
    assert "runtime_unavailable" in said(start("--runtime", str(short_dir / "runc")))


def test_a_state_directory_in_use(start: Start, corral: CorralSystem) -> None:
    name = corral.names[0]
    line = said(start(guest=name, **{"state-dir": str(corral.state_dir(name))}))
    assert f"pid {corral.workers[name].pid}" in line and "another worker" in line
    assert corral.client().info(name).guest == name


def test_a_state_directory_that_cannot_be_made(start: Start, short_dir: Path) -> None:
    (short_dir / "file").write_text("")
    assert "--state-dir" in said(start(**{"state-dir": f"{short_dir}/file/state"}))


def test_a_state_directory_that_cannot_be_written(start: Start, short_dir: Path) -> None:
    frozen = short_dir / "read-only"
    frozen.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(frozen)], check=True)
    try:
        line = said(start(**{"state-dir": f"{frozen}/state"}))
    finally:
        subprocess.run(["umount", str(frozen)], check=True)
    assert "Read-only file system" in line and "writable" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
@pytest.mark.parametrize("which", ["state", "run"])
def test_root_takes_no_directory_of_another_user(start: Start, short_dir: Path, which: str) -> None:
    (short_dir / which).mkdir(mode=0o700)
    os.chown(short_dir / which, 4242, 4242)
    assert f"{short_dir / which} belongs to user 4242" in said(start())
    os.chown(short_dir / which, 0, 0)
    (short_dir / which).chmod(0o770)
    assert "others than its owner may write" in said(start())
    assert not list((short_dir / which).iterdir())


def test_a_disk_without_room_for_the_journal(start: Start, short_dir: Path) -> None:
    small = short_dir / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        line = said(start(**{"state-dir": f"{small}/state"}))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "cannot open" in line and "journal.sqlite" in line


def test_a_run_directory_too_long_for_sockets(start: Start, short_dir: Path) -> None:
    line = said(start(**{"run-dir": f"{short_dir}/{'long/' * 20}"}))
    assert "too long" in line and "107 bytes" in line and "--run-dir" in line
    assert not (short_dir / "state").exists()


@pytest.mark.parametrize("guest", ["", "a/b", "a b", "x" * 65])
def test_a_guest_name_that_could_not_stand_in_a_topic(start: Start, guest: str) -> None:
    assert "guest name" in said(start(guest=guest))


def test_a_label_without_a_value(start: Start) -> None:
    assert "'colour' is not K=V" in said(start("--label", "colour"))


def test_a_state_directory_of_another_guest_or_of_a_newer_corral_is_left_alone(start: Start, short_dir: Path) -> None:
    version = short_dir / "state" / "version"
    version.parent.mkdir()
    for content, part in (('{"version": 1, "guest": "g2"}', "belongs to guest 'g2'"), ('{"version": 99, "guest": "g1"}', "newer Corral")):
        version.write_text(content)
        assert part in said(start())
        assert version.read_text() == content
        assert [path.name for path in version.parent.iterdir()] == ["version"]


def test_a_version_file_that_cannot_be_read(start: Start, short_dir: Path) -> None:
    (short_dir / "state").mkdir()
    (short_dir / "state" / "version").write_text("{")
    assert "cannot be read" in said(start())


def test_an_option_nobody_knows_is_a_usage_error(start: Start) -> None:
    assert start("--no-such-option").returncode == 2


def test_a_version_file_left_empty_by_a_power_cut_is_written_anew(new_corral: Callable[..., CorralSystem]) -> None:
    system = new_corral()
    (name,) = system.names
    version = system.state_dir(name) / "version"
    before = version.read_text()
    system.workers[name].kill()
    version.write_text("")
    system.restart_worker(name)
    assert version.read_text() == before


def test_no_broker_is_no_reason_to_end(short_dir: Path) -> None:
    """It dials for as long as it takes; SIGTERM ends it all the same, with its zygote."""
    argv = ["--guest", "g1", "--broker", f"ipc://{short_dir}/nobody", "--state-dir", f"{short_dir}/s", "--run-dir", f"{short_dir}/r"]
    worker = subprocess.Popen([sys.executable, "-m", "corral_worker", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stderr is not None
    assert worker.stdout.readline().startswith("corral worker ready")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert worker.stderr.read() == ""
    worker.stdout.close()
    worker.stderr.close()


def test_two_workers_of_one_guest_the_second_says_that_it_is_refused(corral: CorralSystem, short_dir: Path) -> None:
    name = corral.names[0]
    places = ["--state-dir", f"{short_dir}/s", "--run-dir", f"{short_dir}/r"]
    second = subprocess.Popen(
        [sys.executable, "-m", "corral_worker", "--guest", name, "--broker", corral.address, *places], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stderr is not None
    try:
        assert "guest_busy" in second.stderr.readline()
        assert corral.client().info(name).about["state_dir"] == str(corral.state_dir(name))
    finally:
        second.terminate()
        second.wait(10)
        second.stderr.close()


def test_everything_it_makes_is_private(corral: CorralSystem) -> None:
    name = corral.names[0]
    for top in (corral.state_dir(name), corral.run_dir(name)):
        assert top.stat().st_mode & 0o077 == 0
        assert top.stat().st_uid == os.getuid()


def test_a_shim_of_a_newer_corral_is_left_alone_and_the_worker_does_not_start(corral: CorralSystem) -> None:
    """As after going back to an older version: what runs there goes on, and the newer worker finds it as it was."""
    name = corral.names[0]
    container = corral.client().guest(name).run("c", spec=corral.spec("sleep", "1000"))
    corral.workers[name].kill()
    path = corral.run_dir(name) / "s" / f"{container.instance}.sock"
    aside = path.with_suffix(".aside")
    path.rename(aside)
    with socket.socket(socket.AF_UNIX) as newer:
        newer.bind(str(path))
        newer.listen()
        with ThreadPoolExecutor() as pool:
            answered = pool.submit(answer_as_version, newer, VERSION + 1)
            with pytest.raises(
                AssertionError, match=rf"corral worker: the shim of container {container.instance} speaks version {VERSION + 1}"
            ):
                corral.workers[name].start()
            assert answered.result(10) == VERSION
    aside.rename(path)
    corral.restart_worker(name)
    assert corral.client().guest(name).container("c").state().status == "running"


def answer_as_version(listener: socket.socket, version: int) -> int:
    """Answers one hello; returns the version in it."""
    connection, _ = listener.accept()
    with connection:
        (hello, _blob), *_ = FrameReader().feed(connection.recv(65536))
        connection.sendall(encode({"t": "state", "version": version}))
        connection.recv(1)  # until the worker hangs up
    return int(hello["version"])
