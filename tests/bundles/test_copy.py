"""Files into and out of containers: whole, as the container sees them, and never by a link that leads out of it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import Client, ContainerSpec, CorralError
from corral.sync.container import Container
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

pytestmark = [pytest.mark.runc, pytest.mark.timeout(60)]


@pytest.fixture
def container(system: CorralSystem, client: Client) -> Iterator[Container]:
    """One that runs, with a layer of its own."""
    made = client.guest(system.names[0]).run(
        spec=ContainerSpec(rootfs=str(system.rootfs), args=["sh", "-c", "echo up; sleep 1000"], overlay=True)
    )
    assert next(iter(made.init.stdout.lines())) == b"up"
    yield made
    made.delete(force=True)


def sh(container: Container, script: str) -> str:
    return container.run(["sh", "-c", script], check=True).stdout.decode()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 7])
def test_a_binary_file_comes_back_as_it_went_in(container: Container, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(size).randbytes(size))
    source.chmod(0o754)
    os.utime(source, ns=(10**18, 10**18 + 123_456_789))
    assert container.copy_in(source, "/root/file") == "/root/file"
    assert sh(container, "stat -c '%a %u %g %s' /root/file").split() == ["754", "0", "0", str(size)]
    back = container.copy_out("/root/file", tmp_path / "back")
    assert back.read_bytes() == source.read_bytes()
    assert (back.stat().st_mode, back.stat().st_mtime_ns) == (source.stat().st_mode, source.stat().st_mtime_ns)


def test_a_directory_keeps_the_name_of_the_file(container: Container, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hello\n")
    assert container.copy_in(tmp_path / "note", "/tmp") == "/tmp/note"
    assert container.copy_in(tmp_path / "note", "/etc/") == "/etc/note"
    (tmp_path / "out").mkdir()
    assert container.copy_out("/etc/note", tmp_path / "out") == tmp_path / "out" / "note"
    assert (tmp_path / "out" / "note").read_text() == "hello\n"


def test_a_container_is_copied_to_and_from_in_every_state(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hello\n")
    made = client.guest(system.names[0]).create(
        spec=ContainerSpec(rootfs=str(system.rootfs), args=["sh", "-c", "cat /note; echo end > /end; exec sleep 1000"], overlay=True)
    )
    made.copy_in(tmp_path / "note", "/note")
    made.start()
    assert next(iter(made.init.stdout.lines())) == b"hello"
    made.pause()
    wait_until(lambda: made.state().status == "paused", "paused", 5)
    made.copy_in(tmp_path / "note", "/paused")
    made.resume()
    made.kill(9)
    made.wait(30)
    assert made.copy_out("/paused", tmp_path / "paused").read_text() == "hello\n"
    large = tmp_path / "large"
    large.write_bytes(random.Random(1).randbytes(3 << 20))
    made.copy_in(large, "/stopped")
    assert made.copy_out("/stopped", tmp_path / "stopped").read_bytes() == large.read_bytes()
    made.delete()


def test_no_link_in_a_container_leads_out_of_it(system: CorralSystem, container: Container, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the guest\n")
    (tmp_path / "note").write_text("evil\n")
    up = "../" * 30
    sh(
        container,
        f"ln -s {secret} /absolute; ln -s {up}{str(secret)[1:]} /relative; ln -s {tmp_path} /way; ln -s {up}{str(tmp_path)[1:]} /back",
    )
    for path in (
        "/absolute",
        "/relative",
        "/way/secret",
        "/back/secret",
        f"{up}{str(secret)[1:]}",
        "/proc/1/root/../../etc/none",
        "/proc/self/root",
    ):
        with pytest.raises(CorralError) as refused:
            container.copy_out(path, tmp_path / "out")
        assert refused.value.code in ("file_not_found", "bad_request"), path
        assert not (tmp_path / "out").exists()
    for path in ("/way/new", "/back/new", f"{up}{str(tmp_path)[1:]}/new"):
        with pytest.raises(CorralError, match="file_not_found"):
            container.copy_in(tmp_path / "note", path)
    # a link at the end is followed within the container: there the directory it names is not
    for path in ("/absolute", "/relative"):
        with pytest.raises(CorralError, match="file_not_found"):
            container.copy_in(tmp_path / "note", path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note", "secret"] and secret.read_text() == "of the guest\n"


def test_a_link_inside_is_followed_and_stays_a_link(container: Container, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("new\n")
    sh(container, "mkdir /data; echo old > /data/real; ln -s /data/real /data/link; ln -s real /data/second; ln -s /data/loop /data/loop")
    assert container.copy_in(tmp_path / "note", "/data/link") == "/data/real"
    assert sh(container, "cat /data/real; readlink /data/link") == "new\n/data/real\n"
    assert container.copy_in(tmp_path / "note", "/data/second") == "/data/real"
    assert container.copy_out("/data/second", tmp_path / "out").read_text() == "new\n"
    with pytest.raises(CorralError, match="bad_request"):
        container.copy_in(tmp_path / "note", "/data/loop")


def test_only_single_files_are_copied(container: Container, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("x")
    sh(container, "mkfifo /pipe")
    for path in ("/etc", "/dev/null", "/pipe", "/"):
        with pytest.raises(CorralError, match="bad_request"):
            container.copy_out(path, tmp_path / "out")
    for path in ("/dev/null", "/pipe"):
        with pytest.raises(CorralError, match="bad_request"):
            container.copy_in(tmp_path / "note", path)
    for source, code in ((tmp_path, "bad_request"), (tmp_path / "none", "file_not_found"), (Path("/dev/null"), "bad_request")):
        with pytest.raises(CorralError, match=code):
            container.copy_in(source, "/x")
    for path in ("/none/x", "/etc/passwd/x", "/none/"):
        with pytest.raises(CorralError, match="file_not_found"):
            container.copy_in(tmp_path / "note", path)
    with pytest.raises(CorralError, match="file_not_found"):
        container.copy_out("/none", tmp_path / "out")


def test_a_read_only_container_says_so_and_its_tmp_takes_files(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("x")
    made = client.guest(system.names[0]).run(spec=system.spec("sleep", "1000"))
    with pytest.raises(CorralError, match="read-only"):
        made.copy_in(tmp_path / "note", "/etc/x")
    assert made.copy_in(tmp_path / "note", "/tmp/x") == "/tmp/x"
    assert sh(made, "cat /tmp/x") == "x"
    made.delete(force=True)


def test_a_set_id_bit_does_not_come_out_of_a_container(container: Container, tmp_path: Path) -> None:
    sh(container, "cp /bin/busybox /root/su; chmod 6755 /root/su")
    assert container.copy_out("/root/su", tmp_path / "su").stat().st_mode & 0o7777 == 0o755


def test_a_copy_leaves_nothing_beside_the_file(system: CorralSystem, container: Container, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("x")
    container.copy_in(tmp_path / "note", "/data-less")
    assert "corral" not in sh(container, "ls -a /")
    assert list((system.state_dir(system.names[0]) / "bundles" / "uploads").iterdir()) == []
