"""How a worker starts the zygote."""

from __future__ import annotations

import os
import select
import sys
from importlib.util import find_spec
from pathlib import Path

from corral_worker.shim.calls.spawn import SIGNALS
from corral_worker.shim.listener import pid_of_listener
from corral_worker.shim.zygote.zygote import ZYGOTE_LOG, ZYGOTE_SOCKET

# The standard library, whatever the environment says: no PYTHON* variables. Its modules come
# before ours, so that what shims use most lies together in memory, on fewer pages that each must have for itself.
_FIRST = "contextlib, ctypes, errno, fcntl, gc, heapq, itertools, json, mmap, re, resource, select, signal, socket, struct, termios, zlib"
# Ours come first, site packages last: of those only isal is ever imported, and a shim works without it.
_PATHS = "sys.path.insert(0, sys.argv.pop(1)); sys.path.append(sys.argv.pop(1))"
_PROGRAM = f"import sys, {_FIRST}; {_PATHS}; from corral_worker.shim.zygote.zygote import main; sys.exit(main())"
# Far more than it takes on a machine that is not overloaded: a guest may be booting on a host that is.
START_TIMEOUT_MS = 60_000
LISTEN_LOOKS, LISTEN_LOOK_MS = 200, 10


class ZygoteStartError(Exception):
    """The zygote did not come up; the text says where its log is."""


def zygote_argv(run_dir: Path, state_dir: Path, guest: str) -> list[str]:
    """Its command line, in the foreground."""
    ours = Path(__file__).parents[3]
    program = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(ours), str(_directory_of_isal() or ours)]
    return [*program, "--run-dir", str(run_dir), "--state-dir", str(state_dir), "--guest", guest]


def _directory_of_isal() -> Path | None:
    """Where `import isal` finds it; None where it is not installed."""
    found = find_spec("isal")
    return Path(found.origin).parents[1] if found is not None and found.origin else None


def start_zygote(run_dir: Path, state_dir: Path, guest: str) -> None:
    """Start the zygote of a guest, or find it running; returns once it accepts connections (about 0.1 s).

    It is no child of ours and in a session of its own: it outlives us, and no signal to our group reaches it.

    Raises:
        ZygoteStartError: it failed, or was not up after a minute.
        OSError: the directories cannot be written.
    """
    run_dir, state_dir = Path(run_dir).absolute(), Path(state_dir).absolute()
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = run_dir / ZYGOTE_LOG
    argv = [*zygote_argv(run_dir, state_dir, guest), "--detach"]
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        sys.executable,
        argv,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=SIGNALS,  # who started the worker may have ignored or blocked any
    )
    status = _wait(pid)
    if status != 0 or not _listens(run_dir / ZYGOTE_SOCKET):
        raise ZygoteStartError(f"the zygote of {guest} did not start (status {status}): see {log}")


def wait_for_zygote(run_dir: Path, guest: str) -> None:
    """Returns once the zygote that somebody else starts accepts connections. Raises ZygoteStartError when it was not up after a minute."""
    if not _listens(run_dir / ZYGOTE_SOCKET, START_TIMEOUT_MS // LISTEN_LOOK_MS):
        raise ZygoteStartError(f"no zygote of {guest} came up at {run_dir / ZYGOTE_SOCKET}; see: systemctl status corral-zygote@{guest}")


def _listens(path: Path, looks: int = LISTEN_LOOKS) -> bool:
    """Somebody accepts there, at once or (another start is under way at the same time) very soon."""
    for _ in range(looks):
        if pid_of_listener(path) is not None:
            return True
        select.poll().poll(LISTEN_LOOK_MS)
    return False


def _wait(pid: int) -> int | None:
    """The exit status of a child, None when it was not done in time (it is killed then)."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        timed_out = not poll.poll(START_TIMEOUT_MS)
        if timed_out:
            os.kill(pid, 9)
        status = os.waitpid(pid, 0)[1]
        return None if timed_out else os.waitstatus_to_exitcode(status)
    finally:
        os.close(pidfd)
