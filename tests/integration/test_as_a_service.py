"""Broker and worker under a service manager: what they tell it, and a zygote that is a service of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral import Client, ContainerSpec
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem
from corral_worker.shim.listener import pid_of_listener

WATCHDOG_US = 300_000
PATIENCE_S = 20.0


class Manager:
    """The service manager's end: a datagram socket, and what it was told."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE_S)
        self.environment = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_US)}

    def hear(self, wanted: str) -> list[str]:
        """Everything up to and with `wanted`."""
        heard: list[str] = []
        while not heard or heard[-1] != wanted:
            heard.append(self._socket.recv(100).decode())
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@contextlib.contextmanager
def service(*argv: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *argv], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_broker_says_that_it_serves_that_it_lives_and_that_it_stops(manager: Manager, tmp_path: Path) -> None:
    with service("corral_broker", "--bind", f"ipc://{tmp_path}/b", environment=manager.environment) as broker:
        assert "WATCHDOG=1" not in manager.hear("READY=1")
        for _ in range(3):
            manager.hear("WATCHDOG=1")
        broker.terminate()
        manager.hear("STOPPING=1")
        assert broker.wait(PATIENCE_S) == 0


@pytest.mark.runc
def test_a_worker_says_so_too_and_its_containers_find_no_manager(manager: Manager, new_corral: Callable[..., CorralSystem]) -> None:
    system = new_corral(guests=1)
    name = system.names[0]
    run_dir, state_dir = system.directory / "run-service", system.directory / "state-service"
    argv = ["corral_worker", "--guest", f"{name}-s", "--broker", system.address, "--run-dir", str(run_dir), "--state-dir", str(state_dir)]
    with service(*argv, environment=manager.environment) as worker, Client(system.address) as client:
        manager.hear("READY=1")
        for _ in range(3):
            manager.hear("WATCHDOG=1")
        wait_until(lambda: any(info.guest == f"{name}-s" and info.up for info in client.guests()), "the worker is registered", PATIENCE_S)
        box = client.guest(f"{name}-s").run("box", spec=ContainerSpec(rootfs=str(system.rootfs), args=["env"]))
        assert b"NOTIFY_SOCKET" not in box.init.stdout.read()
        box.delete()
        worker.terminate()
        manager.hear("STOPPING=1")
        assert worker.wait(PATIENCE_S) == 0


@pytest.mark.runc
def test_a_zygote_that_is_a_service_outlives_the_worker_and_is_waited_for(new_corral: Callable[..., CorralSystem]) -> None:
    system = new_corral(guests=1)
    name = f"{system.names[0]}-z"
    run_dir, state_dir = system.directory / "run-z", system.directory / "state-z"
    places = ["--guest", name, "--run-dir", str(run_dir), "--state-dir", str(state_dir)]
    worker_argv = ["corral_worker", *places, "--broker", system.address, "--zygote", "unit"]
    plain = dict(os.environ)

    def worker_instance(client: Client) -> str:
        return next((info.worker for info in client.guests() if info.guest == name and info.up), "")

    with service(*worker_argv, environment=plain) as worker, Client(system.address) as client:
        with service("corral_worker", "zygote", *places, environment=plain) as zygote:
            wait_until(lambda: bool(worker_instance(client)), "the worker found the zygote", PATIENCE_S)
            assert pid_of_listener(run_dir / "zygote.sock") == zygote.pid
            box = client.guest(name).run("box", spec=ContainerSpec(rootfs=str(system.rootfs), args=["sleep", "1000"]))
            zygote.kill()  # as a restart of its unit does: shims and containers stay
            zygote.wait()
        with service("corral_worker", "zygote", *places, environment=plain) as zygote:
            assert client.guest(name).run("more", spec=ContainerSpec(rootfs=str(system.rootfs), args=["true"])).wait().code == 0
            assert pid_of_listener(run_dir / "zygote.sock") == zygote.pid
            box.kill(signal.SIGKILL)
            assert box.wait().signal == signal.SIGKILL
            for container in (box, client.guest(name).container("more")):
                container.delete()
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0
            assert zygote.poll() is None, "a worker that leaves ends no zygote that is not its own"
