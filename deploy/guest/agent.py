"""A guest's agent: does what the host asks for over the second serial port, for tests and for fleets on one machine.

It talks JSON, a line a message. It says {"say": "ready"} and is told, once,
    {"boot": {"now": wall clock in s, "seed": hex, "identity": the fields that first_boot.py knows}}
and then any number of times {"shell": command, "id": n}, answered {"id": n, "status": n, "output": text}; {"power": "off"} and
{"power": "reboot"} end the guest.

In a guest with the tiny init it also mounts STATE and starts the worker. A template is frozen while it waits to be told to boot: what
is read or drawn before that is the same in every clone. So identity, clock, entropy and STATE come afterwards. A guest that finds its
identity by itself (first_boot.py) boots by that, without being told. With `--shell` (a guest with systemd) it only does what is asked.
"""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
import tty
from typing import Any

import first_boot

SERIAL_PORT = "/dev/ttyS1"
BLKFLSBUF = 0x1261  # linux/fs.h: forget what was read of a block device
RNDRESEEDCRNG = 0x5207  # linux/random.h
SHELL_OUTPUT_BYTES_MAX = 64 << 10


class Agent:
    """The serial port, and the worker's process."""

    def __init__(self, worker: Any) -> None:
        self._port = os.open(SERIAL_PORT, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._port)
        self._worker = worker
        self._worker_pid = 0

    def serve(self) -> None:
        if self._worker is not None and (identity := first_boot.find_identity()):
            self._start(identity)
        self._say({"say": "ready"})
        with os.fdopen(os.dup(self._port), "rb") as lines:
            for line in lines:
                match json.loads(line):
                    case {"boot": told}:
                        become_somebody(told)
                        self._start(told["identity"])
                        self._say({"say": "booted"})
                    case {"shell": command, "id": number}:
                        self._say({"id": number, **shell(command)})
                    case {"power": "reboot"}:
                        subprocess.run(["reboot", "-f"], check=True)
                    case {"power": "off"}:
                        self._power_off()

    def _start(self, identity: dict[str, Any]) -> None:
        """Mounts STATE and starts the worker, in a child that has imported it already."""
        with open("/dev/vdc", "rb") as disk:
            fcntl.ioctl(disk, BLKFLSBUF)  # the kernel looked for partitions; a clone has another disk than its template had
        first_boot.mount_state()
        arguments = [*first_boot.worker_arguments(identity), *identity.get("worker-option", ())]
        self._worker_pid = os.fork()
        if self._worker_pid == 0:
            os.setsid()
            self._worker.main(arguments, prog_name="corral worker")

    def _power_off(self) -> None:
        if self._worker_pid:
            os.kill(self._worker_pid, signal.SIGTERM)
            os.waitpid(self._worker_pid, 0)
        subprocess.run(["poweroff", "-f"] if self._worker is not None else ["systemctl", "poweroff"], check=True)  # both sync

    def _say(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._port, line) :]


def become_somebody(told: dict[str, Any]) -> None:
    """Makes a clone a machine of its own: it woke with its template's clock and random numbers."""
    time.clock_settime(time.CLOCK_REALTIME, told["now"])
    seed = bytes.fromhex(told["seed"])
    with open("/dev/urandom", "wb", buffering=0) as pool:
        pool.write(seed)
        fcntl.ioctl(pool, RNDRESEEDCRNG)
    random.seed(seed)


def shell(command: str) -> dict[str, Any]:
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return {"status": done.returncode, "output": done.stdout[-SHELL_OUTPUT_BYTES_MAX:].decode(errors="replace")}


def main() -> None:
    if "--shell" in sys.argv:
        Agent(None).serve()
        return
    import corral_worker.shim.zygote.zygote  # noqa: F401 - a process of its own in every guest: what it reads stays in the page cache
    from corral_worker.command import worker  # everything a worker imports is in memory before a template is frozen

    subprocess.run(["runc", "--version"], capture_output=True, check=True)  # the same
    try:
        Agent(worker).serve()
    except first_boot.IdentityError as why:
        sys.exit(f"agent: {why}")


if __name__ == "__main__":
    main()
