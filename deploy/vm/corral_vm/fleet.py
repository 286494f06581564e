"""A broker with keys on this host and guests in QEMU, which outlive the command that started them (`make vm-up`, `make vm-down`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from corral import Client
from corral.keys import load_keys
from corral_vm.argv import HOST_IN_GUEST, NIC
from corral_vm.channels import Monitor, VmError
from corral_vm.image import ready_image
from corral_vm.machine import Identity, Machine
from corral_vm.shell import CACHE, REPOSITORY, run
from corral_vm.template import Template, ready_template

DIRECTORY = CACHE / "up"
UP_S = 180.0
LOOK_S = 0.2
CONSOLE_CHARS_SHOWN = 2000
TOKEN_TTL = "15m"

Say = Callable[[str], None]


class Fleet:
    """What runs is in DIRECTORY/fleet.json: the broker's address, and name → pid of every process."""

    def __init__(self, say: Say, directory: Path = DIRECTORY) -> None:
        self._say, self._directory = say, directory
        self._file = directory / "fleet.json"
        self._keys = directory / "broker" / "keys"
        self.environment_file = directory / "environment"
        """For a shell: which broker, and with which keys."""

    def up(self, count: int, port: int) -> list[str]:
        """Sees to it that a broker on 127.0.0.1:`port` and guests vm1 … run; → the names of those that were started now.

        What runs already is left alone. Raises VmError, BuildError; then nothing runs that was not running before.
        """
        self._say("the image: built if it is not cached (a minute or two, the first time)")
        image = ready_image()
        self._say("the template: a guest frozen right before it is given a name (some ten seconds, the first time)")
        template = ready_template(image)
        self._directory.mkdir(parents=True, exist_ok=True)
        before = self._running()
        pids, started = dict(before), [name for name in _names(count) if name not in before]
        try:
            address = self._bring_up_broker(port, pids)
            for name in started:
                self._start_guest(template, name, address, pids)
            self._wait_registered(address, pids)
        except BaseException:
            for name in pids.keys() - before.keys():
                _kill(pids[name], str(self._directory))
            self._note(before, self._address())
            if not before:
                shutil.rmtree(self._directory)
            raise
        return started

    def down(self) -> list[str]:
        """Ends everything and removes the guests' disks and the keys; → what was ended."""
        ended = self._running()
        for pid in ended.values():
            _kill(pid, str(self._directory))
        shutil.rmtree(self._directory, ignore_errors=True)
        return sorted(ended)

    def plug(self, name: str, *, plugged: bool) -> None:
        """Puts a guest's network cable in, or pulls it out. Raises VmError for a guest that is not there."""
        self._pid(name)
        monitor = Monitor(self._directory / name / "monitor")
        monitor.do("set_link", name=NIC, up=plugged)
        monitor.close()

    def signal(self, name: str, number: signal.Signals) -> None:
        """SIGKILL: its power is cut; SIGSTOP: it is frozen; SIGCONT: it goes on. Raises VmError for a guest that is not there."""
        os.kill(self._pid(name), number)

    # -- parts --------------------------------------------------------------------------------------------------------------

    def _bring_up_broker(self, port: int, pids: dict[str, int]) -> str:
        """Its address; it is started, with keys made for it, where it does not run."""
        if "broker" in pids:
            return self._address()
        if not (self._keys / "broker.secret").exists():
            _corral("keys", "new", "--broker", "--keys", str(self._keys))
            key_file = self._directory / "operator.key"
            _corral("keys", "new", "operator", "--role", "operator", "--file", str(key_file), "--keys", str(self._keys))
        pids["broker"], address = self._start_broker(port)
        self._note(pids, address)
        lines = {
            "CORRAL_BROKER": address,
            "CORRAL_KEY": self._directory / "operator.key",
            "CORRAL_SERVER_KEY": self._keys / "broker.public",
        }
        self.environment_file.write_text("".join(f"export {name}='{value}'\n" for name, value in lines.items()))
        self._say(f"a broker with keys: {address}, pid {pids['broker']}")
        return address

    def _start_broker(self, port: int) -> tuple[int, str]:
        argv = [sys.executable, "-m", "corral_broker", "--bind", f"tcp://127.0.0.1:{port}", "--json"]
        log_file = self._directory / "broker.log"
        with log_file.open("wb") as log:
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
            raise VmError(f"the broker did not start: {log_file.read_text().strip()}")
        return process.pid, ready["ready"]

    def _start_guest(self, template: Template, name: str, address: str, pids: dict[str, int]) -> None:
        token = _corral("keys", "token", "--guest", name, "--ttl", TOKEN_TTL, "--keys", str(self._keys)).strip()
        public = tomllib.loads((self._keys / "broker.public").read_text())["public"]
        machine = Machine(template.image, self._directory / name, detached=True)
        broker = f"tcp://{HOST_IN_GUEST}:{address.rpartition(':')[2]}"
        try:
            template.clone(machine, Identity(name, broker, {"kind": "vm", "role": "web" if name == "vm1" else "work"}, public, token))
        finally:
            if machine.running:
                pids[name] = machine.pid
                self._note(pids, address)
        self._say(f"{name}: a guest in QEMU, pid {machine.pid}; it enrols with a token of its own")

    def _wait_registered(self, address: str, pids: dict[str, int]) -> None:
        """Until all guests are up. Raises VmError, with what a missing one said last."""
        keys = load_keys(str(self._directory / "operator.key"), str(self._keys / "broker.public"))
        until_s = time.monotonic() + UP_S
        with Client(address, keys=keys) as client:
            while missing := sorted(pids.keys() - {"broker"} - {info.guest for info in client.guests() if info.up}):
                if time.monotonic() > until_s or not _is_ours(pids[missing[0]], str(self._directory)):
                    said = (self._directory / missing[0] / "console.log").read_text(errors="replace").strip()
                    raise VmError(f"{missing[0]} did not come up; its console:\n{said[-CONSOLE_CHARS_SHOWN:]}")
                time.sleep(LOOK_S)

    # -- what runs ----------------------------------------------------------------------------------------------------------

    def _note(self, pids: dict[str, int], address: str) -> None:
        self._file.write_text(json.dumps({"address": address, "pids": pids}))

    def _address(self) -> str:
        return str(json.loads(self._file.read_text())["address"]) if self._file.exists() else ""

    def _running(self) -> dict[str, int]:
        """Name → pid, of those that live."""
        pids = json.loads(self._file.read_text())["pids"] if self._file.exists() else {}
        return {name: pid for name, pid in pids.items() if _is_ours(pid, str(self._directory))}

    def _pid(self, name: str) -> int:
        running = self._running()
        if name == "broker" or name not in running:
            there = ", ".join(sorted(running.keys() - {"broker"})) or "none; make vm-up starts some"
            raise VmError(f"no guest {name!r} runs; there are: {there}")
        return running[name]


def _names(count: int) -> list[str]:
    return [f"vm{number}" for number in range(1, count + 1)]


def _corral(*words: str) -> str:
    return run([str(Path(sys.executable).with_name("corral")), *words], directory=REPOSITORY)


def _is_ours(pid: int, named: str) -> bool:
    """Its command line names our directory: a pid may have been given to another process since."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        return named in Path(f"/proc/{pid}/cmdline").read_text()
    return False


def _kill(pid: int, named: str) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        descriptor = os.pidfd_open(pid)
        try:
            if _is_ours(pid, named):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                select.select([descriptor], [], [])
        finally:
            os.close(descriptor)
