"""The test kit's own Corral: what it kills comes back, and what it leaves is found."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from corral_testkit.remains import cgroups_of, processes_at, remains
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc


def test_every_guest_runs_containers(corral: CorralSystem) -> None:
    client = corral.client()
    for name in corral.names:
        container = client.guest(name).run(spec=corral.spec("sh", "-c", "echo out; exit 3"))
        assert container.init.stdout.read() == b"out\n"
        assert container.wait().code == 3


def test_a_worker_that_was_killed_comes_back_to_its_containers(corral: CorralSystem) -> None:
    name = corral.names[0]
    client = corral.client()
    container = client.guest(name).run(spec=corral.spec("sh", "-c", "read line; exit 4"))
    shim = corral.shim_pid(name, container.instance)
    corral.restart_worker(name)
    assert corral.shim_pid(name, container.instance) == shim
    assert container.state().status in ("running", "stopped")


def test_a_broker_that_was_killed_comes_back_to_its_guests(corral: CorralSystem) -> None:
    corral.restart_broker()
    assert {info.guest for info in corral.client().guests() if info.up} == set(corral.names)


def test_a_frozen_worker_answers_once_it_is_thawed(corral: CorralSystem) -> None:
    name = corral.names[1]
    client = corral.client()
    corral.workers[name].freeze()
    assert not corral.workers[name].running
    corral.workers[name].thaw()
    assert client.info(name).guest == name


def test_nothing_is_left_of_a_system_even_of_what_runs_or_was_killed(rootfs: Path) -> None:
    with CorralSystem(rootfs=rootfs) as system:
        (name,) = system.names
        container = system.client().guest(name).run(spec=system.spec("sleep", "1000"))
        assert cgroups_of(name)
        pids = {system.broker.pid, system.workers[name].pid, system.shim_pid(name, container.instance), system.zygote_pid(name)}
        assert pids <= processes_at(system.directory).keys()
        system.workers[name].kill()
        system.broker.kill()
    assert remains(system.directory, system.names) == []
    assert not system.directory.exists()


def test_what_is_left_behind_is_told_and_removed(rootfs: Path) -> None:
    with pytest.raises(AssertionError, match=r"left behind.*sleep 1000"), CorralSystem(rootfs=rootfs) as system:
        stray = subprocess.Popen(["sleep", "1000"], cwd=system.directory)
    assert stray.wait() == -signal.SIGKILL
    assert remains(system.directory, system.names) == []


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_clients_of_a_shared_system_leave_no_descriptor_to_the_next_test(corral: CorralSystem) -> None:
    before = descriptors()
    for _ in range(5):
        corral.client().guests()
    assert descriptors() > before
    corral.close_clients()
    assert descriptors() <= before
