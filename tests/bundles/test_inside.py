"""What a program sees in a container made from a spec, on real runc: its own cgroup, its name, masked paths, limits, its terminal."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundles.conftest import push
from corral import Client, ContainerSpec, CorralError, Mount
from corral.bundle.pack import pack
from corral.bundle.sources import DirectorySource
from corral.sync.guest import Guest
from corral_schemas.commands import CreateArgs
from corral_schemas.containers import Device, Tmpfs, Ulimit
from corral_schemas.limits import PIDS_LIMIT_DEFAULT
from corral_testkit.bundles import BUSYBOX
from corral_testkit.system import CorralSystem
from corral_worker.runtime.bundles import make_bundle
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


CALLS = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    return errno.errorcode.get(ctypes.get_errno(), "ok")
print(tried(323, 0), tried(425, 1, 0), tried(250, 0, 0), tried(435, 0, 0), tried(272, 0x10000000), tried(41, 40, 1, 0), tried(41, 38, 5, 0))
print(tried(39), tried(41, 1, 1, 0), tried(101, 3, 0, 0, 0))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are those of x86-64")
def test_calls_that_docker_denies_are_denied(system: CorralSystem, guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(CALLS)
    python = Path(sys.base_prefix)
    paths = ["/lib", "/lib64", "/usr/lib", "/usr/bin", *([str(python)] if python != Path("/usr") else []), str(tmp_path)]
    mounts = [Mount(source=path, destination=path, readonly=True) for path in paths if Path(path).exists()]
    program = f"{Path(sys.executable).resolve()} -I {tmp_path}/calls.py"
    found = said(guest, program, rootfs=str(system.rootfs), overlay=True, mounts=mounts).splitlines()
    # userfaultfd, io_uring_setup, keyctl, clone3, unshare, socket of AF_VSOCK and AF_ALG
    assert found[0] == "EPERM EPERM EPERM ENOSYS EPERM EPERM EPERM"
    assert found[1] == "ok ok ESRCH", "getpid, a Unix socket and ptrace are permitted"


def granted(guest: Guest, system: CorralSystem, **spec: object) -> int:
    """The effective capabilities of a shell in a container."""
    status = said(guest, "cat /proc/self/status", rootfs=str(system.rootfs), **spec)
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)


def test_capabilities_are_added_and_dropped(system: CorralSystem, guest: Guest) -> None:
    net_admin, chown = 1 << 12, 1 << 0
    assert granted(guest, system, cap_add=["NET_ADMIN"], cap_drop=["chown"]) & (net_admin | chown) == net_admin
    assert granted(guest, system, cap_drop=["ALL"]) == 0
    with pytest.raises(CorralError, match=r"bad_request.*no capability"):
        guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"], cap_add=["NOPE"]))


def test_seccomp_may_be_off_or_of_ones_own_and_new_privileges_may_be_off(system: CorralSystem, guest: Guest) -> None:
    program = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; mkdir /tmp/x && echo made; true"

    def lines(**spec: object) -> list[str]:
        return [line.split()[-1] for line in said(guest, program, rootfs=str(system.rootfs), **spec).splitlines()]

    assert lines() == ["0", "2", "made"]
    assert lines(seccomp="unconfined", no_new_privileges=True) == ["1", "0", "made"]
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    assert lines(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}) == ["0", "2"]
    with pytest.raises(CorralError, match="seccomp profile"):
        guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"], seccomp={"defaultAction": 1}))


def test_a_device_of_the_guest_is_there_with_its_permissions(system: CorralSystem, guest: Guest) -> None:
    program = "ls -l /dev/mine; (: > /dev/mine) 2>/dev/null && echo written; (: < /dev/mine) && echo read; ls /dev/kmsg 2>/dev/null; true"
    device = Device(source="/dev/kmsg", destination="/dev/mine", permissions="r")
    found = said(guest, program, rootfs=str(system.rootfs), devices=[device], cap_add=["SYSLOG"]).splitlines()
    assert (found[0].split()[4:6], found[1:]) == (["1,", "11"], ["read"])
    with pytest.raises(CorralError, match=r"bad_request.*/etc is no device"):
        guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"], devices=[Device(source="/etc")]))


def test_privileged_is_refused_unless_the_worker_allows_it(
    system: CorralSystem, guest: Guest, new_corral: Callable[..., CorralSystem]
) -> None:
    with pytest.raises(CorralError, match=r"unauthorized.*--allow-privileged"):
        guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"], privileged=True))
    allowing = new_corral(1, worker_options=["--allow-privileged"])
    other = allowing.client().guest(allowing.names[0])
    program = "grep -E 'Seccomp:' /proc/self/status; ls /dev/kmsg; (: < /dev/kmsg) && echo read; mount -t tmpfs x /tmp && echo mounted"
    found = said(other, program, rootfs=str(allowing.rootfs), privileged=True).splitlines()
    assert found == ["Seccomp:\t0", "/dev/kmsg", "read", "mounted"]


@pytest.mark.parametrize(
    "more",
    [
        {"cap_add": ["SYS_ADMIN"]},
        {"seccomp": "unconfined"},
        {"devices": [Device(source="/dev/kmsg")]},
        {"privileged": True},
        {"pid": "host"},
        {"ipc": "host"},
        {"uts": "host"},
        {"oom_score_adj": -1},
    ],
)
def test_with_allowed_roots_nothing_beyond_dockers_default_is_given(tmp_path: Path, more: dict[str, Any]) -> None:
    (tmp_path / "rootfs").mkdir()
    args = CreateArgs(container="c", spec=ContainerSpec(rootfs=str(tmp_path / "rootfs"), args=["true"], **more))
    with pytest.raises(CorralError, match="unauthorized"):
        make_bundle(args, tmp_path / "made", "/cg", (tmp_path.resolve(),))
    make_bundle(args, tmp_path / "made", "/cg", (tmp_path.resolve(),), privileged=True)


def test_limits_of_a_spec_are_those_of_the_process(system: CorralSystem, guest: Guest) -> None:
    program = "ulimit -n; ulimit -Hn; ulimit -c; df -k /dev/shm | tail -1; cat /proc/self/oom_score_adj"
    limits = [Ulimit(name="nofile", soft=64, hard=128), Ulimit(name="core", soft=0, hard=-1)]
    found = said(guest, program, rootfs=str(system.rootfs), ulimits=limits, shm_bytes=1 << 20, oom_score_adj=77).splitlines()
    assert (found[:3], found[3].split()[1], found[4]) == (["64", "128", "0"], "1024", "77")


def test_weights_and_processors_are_set(system: CorralSystem, guest: Guest) -> None:
    on_v2 = cgroup_version() == "v2"
    files = ("cpu.weight", "cpuset.cpus") if on_v2 else ("cpu/cpu.shares", "cpuset/cpuset.cpus")
    program = f"cat {' '.join(f'/sys/fs/cgroup/{file}' for file in files)}"
    found = said(guest, program, rootfs=str(system.rootfs), cpu_shares=512, cpuset_cpus="0").splitlines()
    assert found == ["20" if on_v2 else "512", "0"]


def test_a_cgroup_parent_is_the_one_above_the_containers_own(system: CorralSystem, guest: Guest) -> None:
    parent = f"/{system.names[0]}-tenant"
    container = guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["sleep", "1000"], cgroup_parent=parent))
    assert f"{parent}/corral-{container.instance}" in Path(f"/proc/{container.init.pid}/cgroup").read_text()
    container.delete(force=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_swap_bytes": 1 << 30},
        {"memory_bytes": 64 << 20, "memory_swap_bytes": 32 << 20},
        {"memory_bytes": 64 << 20, "memory_reservation_bytes": 128 << 20},
        {"ulimits": [Ulimit(name="nofile", soft=-1, hard=1)]},
        {"sysctls": {"kernel.panic": "1"}},
        {"sysctls": {"net.core.somaxconn": "1"}, "network": "host"},
        {"groups": ["nosuch"]},
        {"tmpfs": [Tmpfs(destination="relative")]},
        {"tmpfs": [Tmpfs(destination="/x", options=["lowerdir=/etc"])]},
        {"pid": "container"},
        {"oom_score_adj": 1001},
    ],
    ids=str,
)
def test_limits_that_cannot_be_are_a_bad_request(system: CorralSystem, guest: Guest, wrong: dict[str, Any]) -> None:
    with pytest.raises(CorralError) as refusal:
        guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"], **wrong))
    assert refusal.value.code == "bad_request"


def test_file_systems_in_memory_and_kernel_settings(system: CorralSystem, guest: Guest) -> None:
    program = "grep ' /run ' /proc/mounts; cp /bin/busybox /run/b && /run/b true; cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni"
    tmpfs = [Tmpfs(destination="/run", options=["size=4m", "mode=700", "exec"])]
    sysctls = {"net.core.somaxconn": "99", "kernel.shmmni": "55"}
    found = said(guest, program, rootfs=str(system.rootfs), overlay=True, tmpfs=tmpfs, sysctls=sysctls).splitlines()
    assert found[1:] == ["99", "55"]
    options = set(found[0].split()[3].split(","))
    assert {"nosuid", "nodev", "size=4096k", "mode=700"} <= options and "noexec" not in options


def test_groups_are_added_by_number_and_name(system: CorralSystem, guest: Guest, bare: Path) -> None:
    (bare / "etc").mkdir()
    (bare / "etc" / "group").write_text("audio:x:29:\n")
    said_groups = said(guest, "grep Groups /proc/self/status", rootfs=str(bare), writable=True, user="1000", groups=["audio", "7"])
    assert said_groups.split()[1:] == ["7", "29"]


def test_processes_of_another_container_or_of_the_guest_are_shared(system: CorralSystem, guest: Guest) -> None:
    first = guest.run("first", spec=ContainerSpec(rootfs=str(system.rootfs), args=["sleep", "1000"]))
    assert "sleep 1000" in said(guest, "ps", rootfs=str(system.rootfs), pid="container:first")
    assert first.state().status == "running", "the end of a guest in its processes is not its own"
    first.delete(force=True)
    with pytest.raises(CorralError, match="container_not_found"):
        guest.run(spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"], pid="container:first"))
    shared = said(guest, f"test -d /proc/{os.getpid()} && hostname", rootfs=str(system.rootfs), pid="host", uts="host", ipc="host")
    assert shared == platform.node()
