"""A guest's agent: the child of PID 1. It mounts STATE, starts the worker, and does what the host asks for.

It talks JSON, a line a message, on the second serial port. It says {"say": "ready"} and is told, once,
    {"boot": {"now": wall clock in s, "seed": hex, "worker": [arguments of `corral worker`]}}
and then any number of times {"shell": command, "id": n}, answered {"id": n, "status": n, "output": text}; {"power": "off"} and
{"power": "reboot"} end the guest.

A template is frozen while it waits to be told to boot: what is read or drawn before that is the same in every clone. So identity, clock,
entropy and STATE come afterwards. A guest whose kernel command line has `corral.guest=NAME corral.broker=ADDRESS …` (any
option of `corral worker`, as corral.OPTION or corral.OPTION=VALUE) boots by that, without being told.
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
from pathlib import Path
from typing import Any

from corral_worker.command import worker  # everything a worker imports is in memory before a template is frozen

SERIAL_PORT = "/dev/ttyS1"
STATE_DISK, STATE = "/dev/vdc", "/var/lib/corral"
BLKFLSBUF = 0x1261  # linux/fs.h: forget what was read of a block device
RNDRESEEDCRNG = 0x5207  # linux/random.h
SHELL_OUTPUT_BYTES_MAX = 64 << 10
WARM_UP = (
    ["runc", "--version"],
    [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {sys.path[0]!r}); import corral_worker.shim.zygote"],
)
"""Run once before a template is frozen: what they read stays in the page cache."""


class Agent:
    """The serial port, and the worker's process."""

    def __init__(self) -> None:
        self._port = os.open(SERIAL_PORT, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._port)
        self._worker_pid = 0

    def serve(self) -> None:
        if told := worker_arguments(Path("/proc/cmdline").read_text().split()):
            self._start(told)
        self._say({"say": "ready"})
        with os.fdopen(os.dup(self._port), "rb") as lines:
            for line in lines:
                match json.loads(line):
                    case {"boot": told}:
                        become_somebody(told)
                        self._start(told["worker"])
                        self._say({"say": "booted"})
                    case {"shell": command, "id": number}:
                        self._say({"id": number, **shell(command)})
                    case {"power": "reboot"}:
                        subprocess.run(["reboot", "-f"], check=True)
                    case {"power": "off"}:
                        self._power_off()

    def _start(self, arguments: list[str]) -> None:
        """Mounts STATE and starts the worker, in a child that has imported it already."""
        with open(STATE_DISK, "rb") as disk:
            fcntl.ioctl(disk, BLKFLSBUF)  # the kernel looked for partitions; a clone has another disk than its template had
        subprocess.run(["mount", "-t", "ext4", "-o", "noatime", STATE_DISK, STATE], check=True)
        self._worker_pid = os.fork()
        if self._worker_pid == 0:
            os.setsid()
            worker.main(arguments, prog_name="corral worker")

    def _power_off(self) -> None:
        if self._worker_pid:
            os.kill(self._worker_pid, signal.SIGTERM)
            os.waitpid(self._worker_pid, 0)
        subprocess.run(["poweroff", "-f"], check=True)  # syncs

    def _say(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._port, line) :]


def worker_arguments(words: list[str]) -> list[str]:
    """From the kernel command line; empty where it names no guest."""
    given = [word.removeprefix("corral.") for word in words if word.startswith("corral.")]
    if not any(word.startswith("guest=") for word in given):
        return []
    return [f"--{word}" for word in given]


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


if __name__ == "__main__":
    for argv in WARM_UP:
        subprocess.run(argv, capture_output=True, check=True)
    Agent().serve()
