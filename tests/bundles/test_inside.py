"""What a program sees in a container made from a spec, on real runc: its own cgroup, its name, masked paths, limits, its terminal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bundles.conftest import push
from corral import Client, ContainerSpec, Mount
from corral.bundle.pack import pack
from corral.bundle.sources import DirectorySource
from corral.sync.guest import Guest
from corral_schemas.limits import PIDS_LIMIT_DEFAULT
from corral_testkit.bundles import BUSYBOX
from corral_testkit.system import CorralSystem
from corral_worker.runtime.cgroups import cgroup_version
from corral_worker.runtime.resources import can_limit_swap
from corral_worker.shim.cgroup.cgroup import hierarchies

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


@pytest.fixture
def guest(system: CorralSystem, client: Client) -> Guest:
    return client.guest(system.names[0])


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A root file system with a shell and nothing else: no /etc, no /proc, no /tmp."""
    rootfs = tmp_path / "bare"
    (rootfs / "bin").mkdir(parents=True)
    for name in ("sh", "cat", "hostname", "ls", "touch"):
        shutil.copy(BUSYBOX, rootfs / "bin" / name)
    return rootfs


def said(guest: Guest, program: str, **spec: object) -> str:
    """What a shell program in a container prints, without its last newline; it must end with 0."""
    container = guest.run(spec=ContainerSpec(args=["sh", "-c", program], **spec))  # type: ignore[arg-type]
    exit = container.wait(30)
    out, err = container.init.stdout.read().decode(), container.init.stderr.read().decode()
    container.delete()
    assert exit.code == 0, (out, err)
    return out.removesuffix("\n")


def test_a_program_finds_its_limits_in_a_cgroup_that_it_cannot_change(system: CorralSystem, guest: Guest) -> None:
    files = ("pids.max",) if cgroup_version() == "v2" else ("pids/pids.max", "memory/memory.limit_in_bytes")
    program = f"cat {' '.join(f'/sys/fs/cgroup/{file}' for file in files)}; mkdir /sys/fs/cgroup/{Path(files[0]).parent}/x 2>&1 || true"
    found = said(guest, program, rootfs=str(system.rootfs), memory_bytes=64 << 20).splitlines()
    assert found[0] == str(PIDS_LIMIT_DEFAULT)
    assert found[1:-1] == [str(64 << 20)] * (len(files) - 1)
    assert "Read-only" in found[-1]


def test_swap_adds_nothing_to_a_memory_limit_from_the_start(system: CorralSystem, guest: Guest) -> None:
    if not can_limit_swap(hierarchies()):
        pytest.skip("the kernel does not count swap")
    file, limit = ("memory.swap.max", "0") if cgroup_version() == "v2" else ("memory/memory.memsw.limit_in_bytes", str(64 << 20))
    assert said(guest, f"cat /sys/fs/cgroup/{file}", rootfs=str(system.rootfs), memory_bytes=64 << 20) == limit


def test_an_image_without_etc_knows_localhost_and_its_own_name(system: CorralSystem, client: Client, guest: Guest, bare: Path) -> None:
    push(client, system.names[0], pack(DirectorySource(bare)), "bare")
    program = "cat /etc/hosts /etc/hostname; hostname; touch /etc/mine /etc/hosts"
    hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tweb\n"
    assert said(guest, program, image="bare", overlay=True, hostname="web") == f"{hosts}web\nweb"
    with_network = said(guest, "cat /etc/hosts; ls -l /etc/resolv.conf || true", image="bare", network="host", hostname="web")
    assert with_network.startswith(Path("/etc/hosts").read_text().rstrip("\n") + "\n127.0.1.1\tweb")
    assert ("resolv.conf" in with_network.rpartition("web")[2]) is Path("/etc/resolv.conf").is_file()


def test_a_hosts_file_that_is_mounted_is_the_one_that_is_seen(system: CorralSystem, client: Client, guest: Guest, bare: Path) -> None:
    push(client, system.names[0], pack(DirectorySource(bare)), "bare")
    (bare.parent / "mine").write_text("10.0.0.1 db\n")
    mounts = [Mount(source=str(bare.parent / "mine"), destination="/etc/hosts")]
    assert said(guest, "cat /etc/hosts", image="bare", mounts=mounts) == "10.0.0.1 db"


def test_a_directory_of_the_guest_gets_no_files_from_a_read_only_container(system: CorralSystem, guest: Guest, bare: Path) -> None:
    for name in ("dev", "proc", "sys"):
        (bare / name).mkdir()
    said(guest, "true", rootfs=str(bare))
    assert not (bare / "etc").exists()


def test_a_read_only_container_changes_nothing_in_its_bundle(system: CorralSystem, client: Client, guest: Guest, bare: Path) -> None:
    push(client, system.names[0], pack(DirectorySource(bare)), "bare")
    store = system.state_dir(system.names[0]) / "bundles"
    before = set(store.rglob("*"))
    mounts = [Mount(source="/usr/share", destination="/new/mount", readonly=True)]
    program = "test -d /new/mount && touch /tmp/x && ! touch /x 2>/dev/null && pwd"
    assert said(guest, program, image="bare", mounts=mounts, cwd="/new") == "/new"
    assert set(store.rglob("*")) == before


def test_what_is_below_a_read_only_mount_is_read_only_too(system: CorralSystem, guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "top" / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "top" / "below"], check=True)
    try:
        mounts = [Mount(source=str(tmp_path / "top"), destination="/srv", readonly=True)]
        program = "touch /srv/x /srv/below/x 2>&1 | grep -c Read-only"
        assert said(guest, program, rootfs=str(system.rootfs), overlay=True, mounts=mounts) == "2"
    finally:
        subprocess.run(["umount", tmp_path / "top" / "below"], check=True)


def test_what_tells_of_the_guests_other_work_is_empty(system: CorralSystem, guest: Guest) -> None:
    program = "cat /proc/interrupts /proc/timer_list /proc/keys; ls /sys/firmware /sys/devices/virtual/powercap; true"
    shown = said(guest, program, rootfs=str(system.rootfs)).split()
    assert [word for word in shown if not word.startswith("/sys/")] == []


def test_a_set_id_program_works_as_in_docker(system: CorralSystem, guest: Guest, bare: Path) -> None:
    libraries = [Mount(source=path, destination=path, readonly=True) for path in ("/lib", "/lib64", "/usr/lib") if Path(path).exists()]
    shutil.copy("/usr/bin/id", bare / "bin" / "id")  # busybox gives its rights back
    (bare / "bin" / "id").chmod(0o4755)
    assert said(guest, "/bin/id -u", rootfs=str(bare), writable=True, user="1000", mounts=libraries) == "0"


def test_all_processes_show_those_that_ended_and_were_not_reaped(system: CorralSystem, guest: Guest) -> None:
    program = "sh -c 'sleep 0 & echo up; exec sleep 1000'"
    container = guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["sh", "-c", program]))
    assert next(iter(container.init.stdout)) == b"up\n"
    zombie = None
    while zombie is None:  # until sleep 0 has ended: the time limit of the test ends this
        zombie = next((one for one in container.ps(all=True) if one.is_zombie), None)
    assert zombie.command == []
    assert not [one for one in container.ps() if one.is_zombie]
    container.delete(force=True)
