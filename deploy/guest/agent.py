"""A guest's agent: the child of PID 1. It mounts STATE, starts the worker, and runs what the host asks for.

It talks JSON, a line a message, on the second serial port. It says {"say": "ready"} and is told, once,
    {"boot": {"now": wall clock in s, "seed": hex, "worker": [arguments of `corral worker`]}}
and then any number of times {"shell": command, "id": n}, answered {"id": n, "status": n, "output": text}.

A template is frozen while it waits to be told to boot: what is read or drawn before that is the same in every clone. So identity, clock,
entropy and STATE come afterwards. A guest whose kernel command line has `corral.guest=NAME corral.broker=ADDRESS [corral.label=K=V …]`
boots by that, without being told.
"""

import fcntl
import json
import os
import random
import subprocess
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


def main() -> None:
    subprocess.run(["runc", "--version"], capture_output=True, check=True)  # into the page cache
    port = os.open(SERIAL_PORT, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    if told := worker_arguments(Path("/proc/cmdline").read_text().split()):
        start(told)
    say(port, {"say": "ready"})
    with os.fdopen(os.dup(port), "rb") as lines:
        for line in lines:
            message = json.loads(line)
            if "boot" in message:
                boot(message["boot"])
                say(port, {"say": "booted"})
            else:
                say(port, {"id": message["id"], **shell(message["shell"])})


def worker_arguments(words: list[str]) -> list[str]:
    """From the kernel command line; empty where it names no guest."""
    given = [word.removeprefix("corral.").partition("=")[::2] for word in words if word.startswith("corral.")]
    if not any(name == "guest" for name, _ in given):
        return []
    return [part for name, value in given for part in (f"--{name}", value)]


def boot(told: dict[str, Any]) -> None:
    """Makes a clone a machine of its own: it woke with its template's clock and random numbers."""
    time.clock_settime(time.CLOCK_REALTIME, told["now"])
    seed = bytes.fromhex(told["seed"])
    with open("/dev/urandom", "wb", buffering=0) as pool:
        pool.write(seed)
        fcntl.ioctl(pool, RNDRESEEDCRNG)
    random.seed(seed)
    start(told["worker"])


def start(arguments: list[str]) -> None:
    """Mounts STATE and starts the worker in a child that has imported it already."""
    with open(STATE_DISK, "rb") as disk:
        fcntl.ioctl(disk, BLKFLSBUF)  # the kernel looked for partitions; a clone has another disk than its template had
    Path(STATE).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", "noatime", STATE_DISK, STATE], check=True)
    if os.fork() == 0:
        os.setsid()
        worker.main(arguments, prog_name="corral worker")


def shell(command: str) -> dict[str, Any]:
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return {"status": done.returncode, "output": done.stdout[-SHELL_OUTPUT_BYTES_MAX:].decode(errors="replace")}


def say(port: int, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(port, line) :]


main()
