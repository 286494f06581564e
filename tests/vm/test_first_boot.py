"""Guests that find out who they are at their first boot, and enrol with a token: by fw_cfg, or by a seed disk and with systemd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral import Chunk, ContainerSpec, CorralError, pack_bundle
from corral.sync.container import Container
from corral_testkit.keyed_host import KeyedHost
from corral_testkit.shim_driver import wait_until
from corral_testkit.vms import ROOTFS, Stopwatch
from corral_vm.image import ready_image
from corral_vm.machine import Machine

UP_S = 150.0
TOLD_OFTEN_S = 5
"""In place of the worker's 60 s, so that the test need not wait so long for the watchdog."""

pytestmark = pytest.mark.usefixtures("systemd_guest")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[KeyedHost]:
    with KeyedHost(tmp_path) as host:
        yield host


@dataclass(frozen=True)
class Booted:
    """A guest with systemd that has enrolled, and its broker."""

    host: KeyedHost
    machine: Machine
    worker: str
    took_s: float
    """From its start to enrolled."""


@pytest.fixture(scope="module")
def systemd_guest(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Booted]]:
    """Told by a seed disk. It boots on one core, for half a minute, while the other test has the other core."""
    directory = tmp_path_factory.mktemp("systemd")
    machine = Machine(ready_image("systemd", suite), directory / "vm-s")
    with KeyedHost(directory) as host, machine, ThreadPoolExecutor(1) as pool:  # the machine ends with the thread that started it
        yield pool.submit(_boot_by_seed_disk, host, machine, directory)


def _boot_by_seed_disk(host: KeyedHost, machine: Machine, directory: Path) -> Booted:
    seed = directory / "seed"
    seed.mkdir()
    fields = {"broker": host.address_in_guest, "server-key": host.server_key, "token": host.token("vm-s"), "label": {"told": "seed"}}
    (seed / "user-data").write_text(f"#cloud-config\n{json.dumps({'corral': fields})}\n")
    (seed / "meta-data").write_text("instance-id: vm-s\nlocal-hostname: vm-s\n")
    drive = (
        "-drive",
        f"if=none,id=seed,driver=vvfat,dir={seed},label=cidata,read-only=on",
        "-device",
        "virtio-blk-pci,drive=seed,serial=seed",
    )
    watch = Stopwatch()
    machine.boot_with(*drive, kernel_words="corral.agent")
    return Booted(host, machine, wait_registered(host, "vm-s", machine), watch.s)


def spec(*args: str) -> ContainerSpec:
    return ContainerSpec(rootfs=ROOTFS, args=list(args))


def wait_registered(host: KeyedHost, name: str, machine: Machine, former: str = "") -> str:
    """The instance of a worker other than the former one."""
    wait_until(lambda: host.worker_of(name) not in ("", former), f"{name} registers; its console:\n{machine.console[-3000:]}", UP_S)
    return host.worker_of(name)


def test_a_guest_told_by_fw_cfg_enrols_and_stays_itself_after_a_power_cut(
    host: KeyedHost, suite: str, tmp_path: Path, took: Callable[[str, float], None]
) -> None:
    told = tmp_path / "identity.json"
    fields = {"guest": "vm-f", "broker": host.address_in_guest, "server-key": host.server_key, "token": host.token("vm-f")}
    told.write_text(json.dumps({**fields, "label": {"told": "fw_cfg"}}))
    by_fw_cfg = ("-fw_cfg", f"name=opt/corral/identity,file={told}")
    watch = Stopwatch()
    with Machine(ready_image("test", suite), tmp_path / "vm-f") as machine:
        machine.boot_with(*by_fw_cfg)
        first = wait_registered(host, "vm-f", machine)
        took("cold boot by fw_cfg, to enrolled with a token", watch.s)
        machine.cut_power()
        machine.boot_with(*by_fw_cfg)  # the token is spent: the key that was made before must have survived
        wait_registered(host, "vm-f", machine, former=first)
        [info] = host.client.guests()
        assert (info.guest, info.labels) == ("vm-f", {"told": "fw_cfg"})
        assert host.client.guest("vm-f").run("box", spec=spec("sh", "-c", "exit 7")).wait().code == 7


def test_a_guest_with_systemd_told_by_a_seed_disk_serves_and_is_watched_over(
    systemd_guest: Future[Booted], tmp_path: Path, took: Callable[[str, float], None]
) -> None:
    booted = systemd_guest.result()
    host, machine = booted.host, booted.machine
    took("cold boot of a guest with systemd, to enrolled with a token", booted.took_s)
    box = host.client.guest("vm-s").run("box", spec=spec("sleep", "1000"))
    _hardening_of_the_worker_does_not_reach_containers(host)
    watch = Stopwatch()
    _the_hardened_worker_takes_bundles_makes_overlays_and_copies_files(host, tmp_path)
    took("a push, a container with an overlay and two copies under the hardened unit", watch.s)
    second = _a_hanging_worker_is_replaced(host, machine, booted.worker)
    _restarts_leave_containers_alone(host, machine, second, box)


def _hardening_of_the_worker_does_not_reach_containers(host: KeyedHost) -> None:
    shows = ["sh", "-c", "touch /proc/self/attr/current; grep -E '^Seccomp:' /proc/self/status"]
    program = ContainerSpec(rootfs=ROOTFS, args=shows, seccomp="unconfined")  # so that a filter would be the worker's
    assert host.client.guest("vm-s").run("look", spec=program).init.stdout.read().split() == [b"Seccomp:", b"0"]


def _the_hardened_worker_takes_bundles_makes_overlays_and_copies_files(host: KeyedHost, directory: Path) -> None:
    tree = directory / "tree"
    (tree / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy2(busybox, tree / "bin" / "sh")
    (tree / "bin" / "sleep").symlink_to("sh")
    (tree / "note").write_text("of the bundle\n")
    guest = host.client.guest("vm-s")
    with pack_bundle(tree) as bundle:
        assert guest.bundles.push(bundle, ["small"]).sent_bytes > 0
    program = 'read -r words </note; echo mine >/note; echo "$words"; until [ -e /come ]; do sleep 0.2; done; exit 6'
    layered = guest.run("layered", spec=ContainerSpec(image="small", overlay=True, args=["/bin/sh", "-c", program]))
    said = next(iter(layered.init.output(stderr=None)))
    assert isinstance(said, Chunk) and said.data == b"of the bundle\n"
    layered.copy_out("/note", directory / "note")
    assert (directory / "note").read_text() == "mine\n"
    layered.copy_in(directory / "note", "/come")
    assert layered.wait().code == 6
    with pytest.raises(CorralError, match=r"container_not_running.*copy while it runs"):  # the one thing that the hardening takes
        layered.copy_out("/note", directory / "note")
    again = guest.run("again", spec=ContainerSpec(image="small", args=["/bin/sh", "-c", "read -r words </note; echo $words"]))
    assert again.init.stdout.read() == b"of the bundle\n"


def _a_hanging_worker_is_replaced(host: KeyedHost, machine: Machine, first: str) -> str:
    """By systemd, once it has been silent for the time of its watchdog."""
    drop_in = "/run/systemd/system/corral-worker@vm-s.service.d"
    machine.shell(f"mkdir -p {drop_in}; printf '[Service]\\nWatchdogSec={TOLD_OFTEN_S}\\n' >{drop_in}/often.conf; systemctl daemon-reload")
    machine.shell("systemctl restart corral-worker@vm-s", UP_S)
    second = wait_registered(host, "vm-s", machine, former=first)
    machine.shell("kill -STOP $(systemctl show --property MainPID --value corral-worker@vm-s)")
    third = wait_registered(host, "vm-s", machine, former=second)
    assert "watchdog" in machine.shell("systemctl show --property Result,NRestarts corral-worker@vm-s; journalctl -b -u corral-worker@vm-s")
    return third


def _restarts_leave_containers_alone(host: KeyedHost, machine: Machine, worker: str, box: Container) -> None:
    """The zygote killed, both stopped and started: the container runs on, and new ones can be made."""
    both = "corral-zygote@vm-s corral-worker@vm-s"
    machine.shell("systemctl kill --kill-whom main --signal KILL corral-zygote@vm-s")
    machine.shell(f"systemctl stop {both} && systemctl start {both}", UP_S)
    wait_registered(host, "vm-s", machine, former=worker)
    assert [(state.id, state.status) for state in host.client.guest("vm-s").list().containers if state.id == "box"] == [("box", "running")]
    assert host.client.guest("vm-s").run("after", spec=spec("sh", "-c", "exit 5")).wait().code == 5
    box.kill(9)
    assert box.wait().signal == 9
