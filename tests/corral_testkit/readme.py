"""Pages as tests: their blocks, and a machine on which their commands can be typed as they stand without touching this one."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from types import TracebackType

from corral_testkit.remains import kill_and_wait, readable
from corral_testkit.shim_driver import wait_until

PRIVATE = ("/run/corral", "/var/lib/corral", "/srv/busybox")
"""Directories that the README uses; the session has empty ones of its own in their place."""
BUSYBOX = ["mkdir -p /srv/busybox/bin", "cp /bin/busybox /srv/busybox/bin/", "/srv/busybox/bin/busybox --install /srv/busybox/bin"]
"""The guide's commands that make a root file system, for pages that take it as given."""
ANYTHING = "…"
LEFT_BEFORE = re.compile(r"corral-worker\[.*\] instance \S+ belongs to no container: ")
"""Lines about what a run before on this machine left, because it was killed: no page shows them."""
MARK = "\x02"
PATIENCE_S = 30.0

_BLOCK = re.compile(r"^(?:<!-- (?P<note>.*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_DIFFERENT_EACH_TIME = [
    (re.compile(r"\d\d:\d\d:\d\d\.\d{3}"), "TIME"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\b(running|created|paused)\s+\d+"), r"\1 N"),
    (re.compile(r"\b\d+(\.\d+)? (s|min|h) ago"), "AGO"),
    (re.compile(r"\bexec-[0-9a-f]{8}\b"), "exec-X"),
    (re.compile(r"\s+"), " "),
]


@dataclass(frozen=True)
class Block:
    """A fenced block and the comment right before it."""

    line: int
    note: str
    language: str
    text: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Of a console block: each command and the lines shown below it."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return found


def blocks(markdown: str) -> list[Block]:
    """All fenced blocks that name their language."""
    return [
        Block(markdown.count("\n", 0, match.start()) + 1, match["note"] or "", match["language"], match["text"])
        for match in _BLOCK.finditer(markdown)
    ]


def agrees(expected: list[str], shown: list[str]) -> bool:
    """Whether the lines are those, but for times, process ids and made-up names; `…` stands for any lines, or the rest of a line."""
    pattern = "".join(r"(?:.*\n)*?" if line == ANYTHING else re.escape(_plain(line)).replace(ANYTHING, ".*") + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{_plain(line)}\n" for line in shown)) is not None


def _plain(line: str) -> str:
    for pattern, instead in _DIFFERENT_EACH_TIME:
        line = pattern.sub(instead, line)
    return line.strip()


class Terminal:
    """A bash that runs some commands on a pseudo-terminal, inside a session."""

    def __init__(self, argv: list[str], directory: Path, environment: dict[str, str], patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._shown = ""
        self._process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, cwd=directory, env=environment, start_new_session=True
        )
        os.close(slave)

    def wait_for(self, expected: list[str]) -> None:
        """Until it has shown these lines, whatever may follow. AssertionError when they do not come."""
        until_s = time.monotonic() + self._patience_s
        while not agrees([*expected, ANYTHING], [line for line in self._shown.splitlines() if not LEFT_BEFORE.search(line)]):
            assert self._read(until_s), f"it ended ({self._process.wait()}) without showing {expected}, only:\n{self._shown}"

    def read(self) -> str:
        """All it shows until its commands have ended."""
        until_s = time.monotonic() + self._patience_s
        while self._read(until_s):
            continue
        return self._shown

    def _read(self, until_s: float) -> bool:
        """False at the end. AssertionError when nothing comes in time."""
        assert readable(self._master, until_s - time.monotonic()), f"no more came after:\n{self._shown}"
        data = b""
        with contextlib.suppress(OSError):  # EIO: all its processes have closed it
            data = os.read(self._master, 1 << 16)
        self._shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def end(self) -> None:
        """Ctrl-C, as a person ends it, to all that runs in it; and its end."""
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._master)


class Session:
    """A mount namespace with its own empty PRIVATE directories, and an empty current directory; a context manager."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: for all that one call of `run` or `wait_for` waits for."""
        self._patience_s = patience_s

    def __enter__(self) -> Session:
        self.directory = Path(tempfile.mkdtemp(prefix="corral-readme-"))
        self._made = [path for path in map(Path, PRIVATE) if not path.exists()]
        for path in self._made:
            path.mkdir(parents=True)
        mounts = "".join(f"mount -t tmpfs tmpfs {path}; " for path in PRIVATE)
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{mounts} echo; exec cat"]
        self._holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("CORRAL_")}
        self._environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1", "TERM": "dumb"}
        self._environment["XDG_CONFIG_HOME"] = str(self.directory / ".config")
        self._others: list[Terminal] = []
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for terminal in reversed(self._others):
            terminal.end()
        try:
            wait_until(lambda: not self._inside(), f"all its processes end: {self._inside()}")
        finally:
            for pid in self._inside():
                kill_and_wait(pid)
            self._remove()

    def _inside(self) -> list[int]:
        """Processes other than the holder that have the session's mount namespace."""
        ours = os.stat(f"/proc/{self._holder.pid}/ns/mnt")  # noqa: PTH116
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended while we looked
                if os.path.samestat(ours, (entry / "ns" / "mnt").stat()) and int(entry.name) != self._holder.pid:
                    found.append(int(entry.name))
        return found

    def _remove(self) -> None:
        self._holder.communicate()
        for path in self._made:
            path.rmdir()
        shutil.rmtree(self.directory)

    def run(self, commands: list[str]) -> list[list[str]]:
        """Types commands one after another; what each showed. What is exported lasts for later ones."""
        script = "".join(f"{command}\n__status=$?; printf '%s' '{MARK}'; (exit $__status)\n" for command in commands)
        terminal = self._terminal(f"{script}\nexport -p > exported\n")
        shown = terminal.read()
        terminal.end()
        return [part.splitlines() for part in shown.split(MARK)[:-1]]

    def start(self, command: str) -> Terminal:
        """Types a command in another terminal, where it runs until the session's end."""
        self._others.append(self._terminal(f"exec {command}"))
        return self._others[-1]

    def _terminal(self, script: str) -> Terminal:
        inside = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wd={self.directory}"]
        before = "[ -e exported ] && . ./exported\n"
        return Terminal([*inside, "bash", "-c", before + script], self.directory, self._environment, self._patience_s)
