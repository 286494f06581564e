"""A broker on this host and guests in QEMU that outlive the command that started them (`make vm-up`, `make vm-down`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from corral import Client, EventGap
from corral_vm.argv import HOST_IN_GUEST, NIC
from corral_vm.channels import Monitor, VmError
from corral_vm.image import CACHE, ready_image
from corral_vm.machine import Identity, Machine
from corral_vm.template import ready_template

DIRECTORY = CACHE / "up"
UP_S = 180.0


class Fleet:
    """What runs is in DIRECTORY/fleet.json: the broker's address, and name → pid of every process."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._file = directory / "fleet.json"

    @property
    def address(self) -> str:
        """The broker's. Raises VmError where nothing is up."""
        return str(self._read()["address"])

    def up(self, count: int, port: int) -> list[str]:
        """Starts a broker on 127.0.0.1:`port` and `count` guests, vm1 …; returns their names once all have registered.

        Raises VmError, BuildError, and leaves nothing running then.
        """
        if self._file.exists():
            raise VmError("guests are up already: make vm-down ends them")
        template = ready_template(ready_image())
        self._directory.mkdir(parents=True, exist_ok=True)
        names = [f"vm{number}" for number in range(1, count + 1)]
        pids: dict[str, int] = {}
        try:
            pids["broker"], address = self._start_broker(port)
            for name in names:
                machine = Machine(template.image, self._directory / name, detached=True)
                template.clone(machine, Identity(name, f"tcp://{HOST_IN_GUEST}:{address.rpartition(':')[2]}", {"kind": "vm"}))
                pids[name] = machine.pid
            self._file.write_text(json.dumps({"address": address, "pids": pids}))
            _wait_registered(address, set(names))
        except BaseException:
            self._file.write_text(json.dumps({"address": "", "pids": pids}))
            self.down()
            raise
        return names

    def down(self) -> None:
        """Ends everything and removes the guests' disks. Raises VmError where nothing is up."""
        for pid in self._read()["pids"].values():
            _kill(pid, str(self._directory))
        shutil.rmtree(self._directory)

    def plug(self, name: str, *, plugged: bool) -> None:
        """Puts a guest's network cable in, or pulls it out. Raises VmError for a guest that is not there."""
        try:
            monitor = Monitor(self._directory / name / "monitor")
        except OSError as why:
            raise VmError(f"there is no guest {name}") from why
        monitor.do("set_link", name=NIC, up=plugged)
        monitor.close()

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            found: dict[str, dict[str, int]] = json.loads(self._file.read_text())
        except FileNotFoundError:
            raise VmError("no guests are up: make vm-up starts some") from None
        return found

    def _start_broker(self, port: int) -> tuple[int, str]:
        argv = [sys.executable, "-m", "corral_broker", "--bind", f"tcp://127.0.0.1:{port}", "--insecure", "--json"]
        with (self._directory / "broker.log").open("wb") as log:
            process = subprocess.Popen(
                [*argv, "--state-dir", str(self._directory / "broker")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdout is not None
        with process.stdout as said:
            ready = json.loads(said.readline() or b"{}")
        if "ready" not in ready:
            raise VmError(f"the broker did not start: {(self._directory / 'broker.log').read_text().strip()}")
        return process.pid, ready["ready"]


def _wait_registered(address: str, missing: set[str]) -> None:
    with Client(address) as client, client.events(kinds=["guest_up"]) as events:
        missing -= {info.guest for info in client.guests() if info.up}
        while missing:
            item = next(events)
            missing = {info.guest for info in client.guests() if not info.up} if isinstance(item, EventGap) else missing - {item.guest}


def _kill(pid: int, named: str) -> None:
    """Only a process that has `named` in its command line: a pid may have been given to another one since."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended by itself
        descriptor = os.pidfd_open(pid)
        try:
            if named in Path(f"/proc/{pid}/cmdline").read_text():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                select.select([descriptor], [], [])
        finally:
            os.close(descriptor)
