"""One guest: started, cloned, frozen, cut off, killed, restored."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from corral_vm.argv import NIC, Memory, qemu_argv
from corral_vm.channels import Agent, Monitor, VmError
from corral_vm.image import Image, make_state_disk

COLD_BOOT_S = 180.0
WAKE_S = 60.0
END_S = 30.0
CONSOLE_CHARS_SHOWN = 3000
_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}, {"capability": "events", "state": True}]
_WHOLE = [{"capability": "x-ignore-shared", "state": False}, {"capability": "events", "state": True}]


@dataclass(frozen=True)
class Identity:
    """What makes a guest this guest. Without a server key the broker is one without keys."""

    guest: str
    broker: str
    labels: dict[str, str] = field(default_factory=dict)
    server_key: str = ""
    token: str = ""
    """One-time enrolment token."""
    worker_options: tuple[str, ...] = ()
    """Further ones of `corral worker`, such as --runtime=crun."""

    def fields(self) -> dict[str, Any]:
        """As deploy/guest/first_boot.py knows them."""
        keys = {"server-key": self.server_key, "token": self.token} if self.server_key else {"insecure": True}
        labels = [f"{key}={value}" for key, value in self.labels.items()]
        options = {"worker-option": list(self.worker_options)} if self.worker_options else {}
        return {"guest": self.guest, "broker": [self.broker], "label": labels, **options, **keys}

    def kernel_words(self) -> str:
        """By these it boots again without being told. No token is among them: every container, and every user of the host, reads them."""
        words = []
        for name, value in self.fields().items():
            if name == "token":
                continue
            many = value if isinstance(value, list) else [value]
            words += [f"corral.{name}" if one is True else f"corral.{name}={one}" for one in many if one]
        return " ".join(words)


@dataclass(frozen=True)
class Snapshot:
    """A machine at one moment: its memory and devices, and its STATE disk."""

    memory: Path
    state_disk: Path
    kernel_words: str
    """What it finds when it reboots later."""


class Machine:
    """A QEMU process and its files in a directory of its own. Its STATE disk stays when the machine ends.

    `detached`: the machine outlives this process. Otherwise it ends with the thread that started it.
    """

    def __init__(self, image: Image, directory: Path, *, detached: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.image, self.directory, self.name = image, directory, directory.name
        self.state_disk = directory / "state.ext4"
        if not self.state_disk.exists():
            make_state_disk(self.state_disk)
        self._detached = detached
        self._kernel_words = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._open = contextlib.ExitStack()
        self._monitor: Monitor | None = None
        self._agent: Agent | None = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.cut_power()

    # -- starting -----------------------------------------------------------------------------------------------------------

    def boot(self, identity: Identity) -> None:
        """A cold start by the kernel command line; returns once the worker has been started. Some ten seconds in emulation."""
        self._start(Memory(), identity.kernel_words(), extra_options=self._token_options(identity.token))
        self._wait_ready()

    def boot_with(self, *extra_options: str, kernel_words: str = "") -> None:
        """A cold start with further options of QEMU, such as a seed disk or an fw_cfg file; returns once its agent answers."""
        self._start(Memory(), kernel_words, extra_options=extra_options)
        self._wait_ready()

    def make_template(self, memory: Path, devices: Path) -> None:
        """Boots without an identity, freezes right before one is given, and ends; its memory and devices are in the two files then."""
        self._start(Memory("template", memory), "")
        self._wait_ready()
        self.monitor.do("stop")
        self._save(devices, _IGNORE_SHARED)
        self.cut_power()

    def clone(self, memory: Path, devices: Path, identity: Identity) -> None:
        """Starts as a copy of a template; returns once the worker has been started. About a second."""
        self._start(Memory("clone", memory), identity.kernel_words(), incoming=True)
        self._load(devices, _IGNORE_SHARED)
        told = {"now": time.time(), "seed": secrets.token_hex(32), "identity": identity.fields()}
        self.agent.boot(told, WAKE_S)

    def snapshot(self, directory: Path) -> Snapshot:
        """What it is now, memory and disk; the machine goes on."""
        directory.mkdir(parents=True)
        taken = Snapshot(directory / "memory", directory / "state.ext4", self._kernel_words)
        self.monitor.do("stop")
        self._save(taken.memory, _WHOLE)
        _copy_sparse(self.state_disk, taken.state_disk)
        self.monitor.do("cont")
        return taken

    def restore(self, snapshot: Snapshot) -> None:
        """Starts where the snapshot was taken, its disk set back too. The machine must not be running."""
        _copy_sparse(snapshot.state_disk, self.state_disk)
        self._start(Memory(), snapshot.kernel_words, incoming=True)
        self._load(snapshot.memory, _WHOLE)
        self.monitor.do("cont")

    def _start(self, memory: Memory, kernel_words: str, *, incoming: bool = False, extra_options: tuple[str, ...] = ()) -> None:
        assert not self.running, f"{self.name} runs already"
        self._kernel_words = kernel_words
        with contextlib.ExitStack() as ours, (self.directory / "qemu.log").open("ab") as log:
            monitor, agent = (ours.enter_context(_listening(path)) for path in (self.monitor_path, self.agent_path))
            argv = qemu_argv(
                self.image,
                name=self.name,
                state_disk=self.state_disk,
                console_log=self.directory / "console.log",
                monitor_descriptor=monitor.fileno(),
                agent_descriptor=agent.fileno(),
                memory=memory,
                kernel_words=kernel_words,
                incoming=incoming,
            )
            self._process = subprocess.Popen(
                [*([] if self._detached else ["setpriv", "--pdeathsig", "KILL"]), *argv, *extra_options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(monitor.fileno(), agent.fileno()),
                start_new_session=self._detached,
            )
        self._agent = Agent(self.agent_path)
        self._open.callback(self._agent.close)
        self._monitor = Monitor(self.monitor_path)
        self._open.callback(self._monitor.close)

    def _token_options(self, token: str) -> tuple[str, ...]:
        """QEMU reads it from a file of its owner's."""
        if not token:
            return ()
        told = self.directory / "identity.json"
        with os.fdopen(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump({"token": token}, file)
        return "-fw_cfg", f"name=opt/corral/identity,file={told}"

    def _wait_ready(self) -> None:
        try:
            self.agent.wait("ready", COLD_BOOT_S)
        except VmError as why:
            said = (self.directory / "qemu.log").read_text(errors="replace") + self.console
            raise VmError(f"{why}; it said:\n{said[-CONSOLE_CHARS_SHOWN:]}") from why

    def _save(self, file: Path, capabilities: list[dict[str, object]]) -> None:
        self.monitor.do("migrate-set-capabilities", capabilities=capabilities)
        self.monitor.do("migrate", uri=f"exec:cat >{file}")
        self.monitor.wait_migrated()

    def _load(self, file: Path, capabilities: list[dict[str, object]]) -> None:
        self.monitor.do("migrate-set-capabilities", capabilities=capabilities)
        self.monitor.do("migrate-incoming", uri=f"exec:cat {file}")
        self.monitor.wait_migrated()
        if self.monitor.do("query-status")["status"] != "running":
            self.monitor.do("cont")

    # -- what is there ------------------------------------------------------------------------------------------------------

    @property
    def monitor_path(self) -> Path:
        return self.directory / "monitor"

    @property
    def agent_path(self) -> Path:
        return self.directory / "agent"

    @property
    def monitor(self) -> Monitor:
        assert self._monitor is not None, f"{self.name} was not started"
        return self._monitor

    @property
    def agent(self) -> Agent:
        assert self._agent is not None, f"{self.name} was not started"
        return self._agent

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def console(self) -> str:
        """What the kernel, init, the agent and the worker wrote."""
        log = self.directory / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def shell(self, command: str, timeout_s: float = 60.0) -> str:
        """Output of a command in the guest. Raises VmError."""
        return self.agent.shell(command, timeout_s)

    # -- faults -------------------------------------------------------------------------------------------------------------

    def pull_cable(self) -> None:
        """Packets get lost both ways; nobody is told."""
        self.monitor.do("set_link", name=NIC, up=False)

    def plug_cable(self) -> None:
        self.monitor.do("set_link", name=NIC, up=True)

    def freeze(self) -> None:
        """SIGSTOP to all of QEMU, its network side too; returns once every thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def cut_power(self) -> None:
        """kill -9: the guest runs not one instruction more, and what it had not flushed is gone. Does nothing to one that has ended."""
        self._open.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reboot(self) -> None:
        """From inside, whatever runs there; returns once the worker has been started again."""
        self.monitor.do("set-action", reboot="reset")
        self.agent.power("reboot")
        self._wait_ready()
        self.monitor.do("set-action", reboot="shutdown")

    def power_off(self) -> None:
        """As a person would: the worker is told to end, disks are flushed. Raises VmError when it does not end in time."""
        self.agent.power("off")
        assert self._process is not None
        descriptor = os.pidfd_open(self._process.pid)
        try:
            if not select.select([descriptor], [], [], END_S)[0]:
                raise VmError(f"{self.name} did not power off in {END_S:g} s")
        finally:
            os.close(descriptor)
        self.cut_power()


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def _copy_sparse(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)
