"""The audit log: who asked what of whom, and what became of it. JSON Lines; what only reads is left out unless it was refused."""

import json
import logging
import os
import stat
import time
from pathlib import Path
from typing import IO

import msgspec

from corral_broker.state.ports import Opaque
from corral_broker.state.senders import Sender
from corral_schemas.errors import CorralError
from corral_schemas.frames import CommandHeader
from corral_schemas.keyfiles import fingerprint
from corral_schemas.ops import OPS

FILE_BYTES_MAX = 64 << 20
"""A file that passes this size is renamed to `.1`, in place of the one before. Pipes and devices are written on."""
LINES_WAITING_MAX = 10_000
"""Lines of one turn; beyond, they are counted and said in one line."""
ARGS_BYTES_MAX = 64 << 10
"""No container is looked for in larger arguments."""

REFUSED_KEPT_MAX = 1_000

log = logging.getLogger(__name__)


class _Target(msgspec.Struct):
    container: str = ""
    process: str = ""
    bundle: str = ""
    digest: str = ""
    path: str = ""
    guests: list[str] = []


_target = msgspec.msgpack.Decoder(_Target)


class Audit:
    """Lines are kept until `flush`, once per turn."""

    def __init__(self, path: Path | None) -> None:
        """None: nothing is written. Raises OSError when the file cannot be opened."""
        self._path = path
        self._lines: list[str] = []
        self._dropped = 0
        self._refused_before: set[tuple[str, str]] = set()  # key, guest
        self._file: IO[str] | None = None
        self._place: Path | None = None  # what is renamed once it is full, at the end of links; None for a pipe or a device
        if path is not None:
            self._open(path)

    def command(self, name: str, sender: Sender, header: CommandHeader, args: Opaque, refusal: CorralError | None) -> None:
        """A command that changes something, or any that was refused."""
        if self._path is None:
            return
        op = OPS.get(header.op)
        if refusal is None and op is not None and (op.role == "observer" or op.upload):
            return
        about = {"op": header.op[:64], "guest": header.guest[:64], "target": _target_of(args), "id": header.id[:128]}
        self._add(name, sender, about, refusal.message if refusal is not None else "")

    def registration(self, name: str, sender: Sender, guest: str, why_refused: str) -> None:
        """A guest's key that was refused or enrolled."""
        about = {"op": "register", "guest": guest}
        if self._path is not None and not (why_refused and self._is_repeat(sender, guest)):
            self._add(name, sender, about, why_refused)

    def flush(self) -> None:
        """Writes what has come up. A failure is said in the log; the lines are lost then."""
        if not self._lines or self._file is None or self._path is None:
            return
        if self._dropped:
            self._lines.append(json.dumps({"time": _now_text(), "dropped": self._dropped}))
        try:
            self._file.write("\n".join(self._lines) + "\n")
            self._file.flush()
            if self._place is not None and self._file.tell() > FILE_BYTES_MAX:
                self._file.close()
                self._place.replace(self._place.with_name(self._place.name + ".1"))
                self._open(self._path)
        except OSError as why:
            log.warning("audit_unwritable: %s: %s; %d lines lost", self._path, why, len(self._lines))
        self._lines.clear()
        self._dropped = 0

    def close(self) -> None:
        if self._file is not None:
            self.flush()
            self._file.close()
            self._file = None

    def _is_repeat(self, sender: Sender, guest: str) -> bool:
        """A worker that is refused asks again every second: once is enough."""
        said = (sender.key, guest)
        if said in self._refused_before:
            return True
        if len(self._refused_before) >= REFUSED_KEPT_MAX:
            self._refused_before.clear()
        self._refused_before.add(said)
        return False

    def _open(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._file = path.open("a", encoding="ascii")
        is_plain = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode) and not str(path).startswith(("/dev/", "/proc/"))
        self._place = Path(os.path.realpath(path)) if is_plain else None

    def _add(self, name: str, sender: Sender, about: dict[str, str], why_refused: str) -> None:
        if len(self._lines) >= LINES_WAITING_MAX:
            self._dropped += 1
            return
        line = {"time": _now_text(), "key": name, "fingerprint": fingerprint(sender.key), "address": sender.address, **about}
        self._lines.append(json.dumps({**line, "verdict": "refused" if why_refused else "allowed", "why": why_refused}))


def _target_of(args: Opaque) -> str:
    if len(args) > ARGS_BYTES_MAX:
        return ""
    try:
        found = _target.decode(args)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    named = ",".join(found.guests) or found.bundle or found.digest or f"{found.container}/{found.process or found.path.lstrip('/')}"
    return named[:300].rstrip("/")


def _now_text() -> str:
    now_s = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_s))}.{int(now_s % 1 * 1000):03d}Z"
