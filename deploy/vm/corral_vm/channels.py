"""Talking to a machine: QEMU's monitor (QMP) and the guest's agent. Both are lines of JSON over a Unix socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Literal

Message = dict[str, Any]


class VmError(Exception):
    """A machine did not do what it was asked to."""


class Lines:
    """JSON messages, one a line, with a limit on the time each takes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._path = path
        self._unread = b""
        self._socket.connect(str(path))

    def send(self, message: Message) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_s: float) -> Message:
        """The next message. Raises VmError after `timeout_s` of silence, and when the other side has gone."""
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._unread:
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise VmError(f"{self._path} said nothing for {timeout_s:g} s") from None
            except ConnectionError:
                data = b""
            if not data:
                raise VmError(f"{self._path} was closed: the machine has ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        self._socket.close()


class Monitor:
    """QMP (qemu.org, docs/interop/qmp-spec)."""

    TIMEOUT_S = 60.0

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._events: list[Message] = []
        self._lines.receive(self.TIMEOUT_S)
        self.do("qmp_capabilities")

    def do(self, execute: str, **arguments: Any) -> Any:
        """The command's result. Raises VmError with QEMU's words."""
        self._lines.send({"execute": execute, "arguments": arguments})
        while True:
            answer = self._lines.receive(self.TIMEOUT_S)
            if "event" in answer:
                self._events.append(answer)
            elif "error" in answer:
                raise VmError(f"{execute}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait_migrated(self) -> None:
        """Until a migration, in or out, is done. Raises VmError when it failed."""
        while True:
            event = self._events.pop(0) if self._events else self._lines.receive(self.TIMEOUT_S)
            status = event.get("data", {}).get("status") if event.get("event") == "MIGRATION" else None
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise VmError(f"migration {status}")

    def close(self) -> None:
        self._lines.close()


class Agent:
    """deploy/guest/agent.py in the guest. The connection stays open: QEMU drops what the guest has not taken when it is closed."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._asked = 0

    def wait(self, word: str, timeout_s: float) -> None:
        """Until it says `ready` or `booted`."""
        while self._lines.receive(timeout_s).get("say") != word:
            pass

    def boot(self, told: Message, timeout_s: float) -> None:
        """Gives a guest its identity; returns once its worker has been started."""
        self._lines.send({"boot": told})
        self.wait("booted", timeout_s)

    def power(self, what: Literal["off", "reboot"]) -> None:
        """`off` ends the worker before; `reboot` just reboots, whatever runs."""
        self._lines.send({"power": what})

    def shell(self, command: str, timeout_s: float) -> str:
        """Output of a shell command in the guest. Raises VmError where its status is not 0."""
        self._asked += 1
        self._lines.send({"shell": command, "id": self._asked})
        while (answer := self._lines.receive(timeout_s)).get("id") != self._asked:
            pass
        if answer["status"]:
            raise VmError(f"{command!r} ended with status {answer['status']}: {answer['output']}")
        return str(answer["output"])

    def close(self) -> None:
        self._lines.close()
