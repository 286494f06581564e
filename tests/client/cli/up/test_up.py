"""`corral up`: what it starts, keeps alive, and leaves behind (nothing)."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from corral_testkit.cli import CORRAL, end_up, processes_naming, start_up

pytestmark = pytest.mark.runc
LONG = "/tmp/" + 90 * "x"


def cgroups_of(instance: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/corral/*/*/{instance}"))


def test_the_end_stops_containers_and_leaves_nothing(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs)
    assert (short_directory / "r" / "address").read_text().strip() == up.address
    assert (short_directory / "r").stat().st_mode & 0o777 == 0o700
    paths = [up.background("sh", "-c", "trap '' TERM; sleep 300", guest=guest) for guest in ("g1", "g2")]
    instances = [json.loads(up.corral("inspect", path).stdout)["instance"] for path in paths]
    paused = up.background("sleep", "300")
    up.corral("pause", paused)
    up.corral("create", "-g", "g1", "--rootfs", rootfs, "true")
    assert end_up(up) == 0
    assert processes_naming(str(short_directory)) == []
    assert [cgroup for instance in instances for cgroup in cgroups_of(instance)] == []
    assert not (short_directory / "r" / "address").exists()
    assert not [process for instance in instances for process in processes_naming(instance)]


def test_ctrl_c_ends_it_in_order(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs, guests=1)
    up.background("sleep", "300")
    os.kill(up.process.pid, signal.SIGINT)
    assert up.process.wait(20) == 0
    assert "1 container stopped and deleted" in (short_directory / "err").read_text()
    end_up(up)
    assert processes_naming(str(short_directory)) == []


@pytest.mark.parametrize("victim", ["worker", "broker"])
def test_what_dies_is_started_again_within_half_a_second(short_directory: Path, rootfs: Path, victim: str) -> None:
    up = start_up(short_directory, rootfs, guests=1)
    try:
        path = up.background("sh", "-c", "sleep 3; exit 6")
        (pid,) = [pid for pid, line in processes_naming(str(short_directory)) if f"-m corral_{victim} " in line]
        os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        while not [p for p, line in processes_naming(str(short_directory)) if f"-m corral_{victim} " in line and p != pid]:
            assert time.monotonic() - killed_s < 0.5
        up.until(lambda: up.corral("info", "g1").returncode == 0)
        assert up.corral("wait", path).stdout == "6\n"
        assert "was killed by SIGKILL; it is started again" in (short_directory / "err").read_text()
    finally:
        assert end_up(up) == 0


def test_keep_leaves_containers_to_the_next_up(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs, "--keep", guests=1)
    path = up.background("sh", "-c", "trap 'exit 5' TERM; echo alive; while :; do sleep 0.1; done")
    assert end_up(up) == 0
    again = start_up(short_directory, rootfs, guests=1)
    try:
        assert again.corral("logs", path).stdout == "alive\n"
        assert again.corral("stop", path).returncode == 0
        assert again.corral("wait", path).stdout == "5\n"
    finally:
        assert end_up(again) == 0
    assert processes_naming(str(short_directory)) == []


def test_a_second_up_in_the_same_place_is_refused_with_the_pid_of_the_first(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs, guests=1)
    try:
        second = subprocess.run(
            [*CORRAL, "up", "--state-dir", short_directory / "s", "--run-dir", short_directory / "r"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert second.returncode == 1
        assert f"pid {up.process.pid}" in second.stderr
        assert (short_directory / "r" / "address").exists()
    finally:
        end_up(up)


def test_an_up_that_was_killed_takes_its_children_along_and_the_next_finds_the_containers(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs, guests=1)
    path = up.background("sh", "-c", "sleep 2; exit 9")
    up.process.kill()
    up.process.wait()
    up.until(
        lambda: not [line for _, line in processes_naming(str(short_directory)) if "-m corral_broker" in line or "-m corral_worker" in line]
    )
    again = start_up(short_directory, rootfs, guests=1)
    try:
        assert again.corral("wait", path).stdout == "9\n"
    finally:
        assert end_up(again) == 0
        with contextlib.suppress(AttributeError):
            up.process.stdout.close()  # type: ignore[union-attr]


def test_two_ups_with_guests_of_the_same_names_leave_each_other_s_containers_alone(short_directory: Path, rootfs: Path) -> None:
    for name in ("a", "b"):
        (short_directory / name).mkdir()
    first = start_up(short_directory / "a", rootfs, guests=1)
    paths = [first.background("sh", "-c", "read x; exit 9", flags=("-i",)) for _ in range(2)]
    second = start_up(short_directory / "b", rootfs, guests=1)  # looks for leftovers as it starts, and as it ends
    try:
        theirs = second.background("sleep", "300")
        assert theirs.partition("/")[0] == paths[0].partition("/")[0] == "g1"
        assert end_up(second) == 0
        assert [json.loads(first.corral("inspect", path).stdout)["status"] for path in paths] == ["running", "running"]
    finally:
        end_up(second)
        assert end_up(first) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
@pytest.mark.parametrize("option", ["--state-dir", "--run-dir"])
def test_root_does_not_start_in_a_directory_of_another_user(short_directory: Path, option: str) -> None:
    theirs = short_directory / "theirs"
    theirs.mkdir()
    os.chown(theirs, 4242, 4242)
    places = {"--state-dir": short_directory / "s", "--run-dir": short_directory / "r", option: theirs}
    words = [word for name, place in places.items() for word in (name, str(place))]
    done = subprocess.run([*CORRAL, "up", *words], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1 and "belongs to user 4242" in done.stderr and option in done.stderr, done.stderr
    assert not list(theirs.iterdir())


@pytest.mark.parametrize(("flags", "says"), [(("--runtime", "/no/such/runtime"), "/no/such/runtime"), (("--run-dir", LONG), LONG)])
def test_what_cannot_start_is_said_and_ends_with_1(short_directory: Path, flags: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [*CORRAL, "up", "--state-dir", short_directory / "s", "--run-dir", short_directory / "r", *flags],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert says in done.stderr
    assert "before it was ready" in done.stderr
    assert processes_naming(str(short_directory)) == []
    with contextlib.suppress(OSError):
        Path(LONG).rmdir()


def test_the_context_local_stays_with_the_first_that_runs(short_directory: Path, rootfs: Path) -> None:
    directories = [short_directory / name for name in ("a", "b", "c")]
    (short_directory / "config").mkdir()
    for directory in directories:
        directory.mkdir()
        (directory / "config").symlink_to("../config")  # one person
    first = start_up(directories[0], rootfs, guests=1)
    environment = {name: value for name, value in first.environment.items() if name != "CORRAL_BROKER"}

    def local() -> str:
        return str(json.loads(first.corral_in(environment, "context", "show", "local").stdout)["broker"])

    second = start_up(directories[1], rootfs, guests=1)
    try:
        assert local() == first.address
        said = (directories[1] / "err").read_text()
        assert f"the context 'local' stays as it is, with {first.address}" in said
        assert f"export CORRAL_BROKER={second.address}" in said
    finally:
        assert end_up(first) == 0
        third = start_up(directories[2], rootfs, guests=1)  # the first has ended: nothing of it is lost
        assert end_up(second) == end_up(third) == 0
    assert local() == third.address
    for mine in ("tcp://mine:7700", f"ipc://{short_directory}/broker"):
        assert first.corral_in(environment, "context", "add", "--force", "local", mine).returncode == 0
        assert end_up(start_up(directories[2], rootfs, guests=1)) == 0
        assert local() == mine
