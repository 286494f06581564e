"""The audit log's lines about keys themselves: what somebody on the broker's host did to its key directory, in the broker's own log."""

import contextlib
import json
import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corral.cli.text.failures import Failed
from corral_schemas.errors import CorralError
from corral_schemas.keyfiles import AUDIT_LOG, KeyFileError

NONE = "none"
NO_LOGIN_UID = 2**32 - 1


@dataclass
class Act:
    """One change; its fields may be filled in while it is made."""

    op: str
    target: str = ""
    """The key: its name, fingerprint or public key, as it was typed, or better."""
    guest: str = ""
    details: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def audited(directory: Path, audit_log: str, act: Act) -> Iterator[Act]:
    """Writes one line when the change has been made or has failed.

    audit_log: a file, `none`, or empty for the one that a broker with this key directory writes by default. Raises Failed when it cannot
    be written, before anything is changed.
    """
    path = None if audit_log == NONE else Path(audit_log) if audit_log else directory.parent / AUDIT_LOG
    with _opened(path) as descriptor:
        try:
            yield act
        except (KeyFileError, CorralError, OSError) as why:
            _write(descriptor, act, "failed", str(why))
            raise
        _write(descriptor, act, "allowed", "")


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[int | None]:
    if path is None or not path.parent.is_dir():  # without the directory there are no keys either, and that is what is told
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as why:
        hint = f"run it as the broker's user, on the broker's host; or give the broker's --audit-log, or `--audit-log {NONE}`"
        raise Failed(f"audit log {path}: {why.strerror}", hint=hint) from why
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int | None, act: Act, verdict: str, why: str) -> None:
    if descriptor is None:
        return
    line = {
        "time": _now_text(),
        "key": "",
        "fingerprint": "",
        "address": "local",
        **_who(),
        "op": act.op,
        "guest": act.guest,
        "target": act.target,
        **act.details,
        "id": "",
        "verdict": verdict,
        "why": why,
    }
    os.write(descriptor, (json.dumps(line) + "\n").encode())  # whole at once: the broker appends to it too


def _who() -> dict[str, str | int]:
    """The user the command runs as; and who had logged in, where that is somebody else (sudo, su)."""
    uid = os.getuid()
    who: dict[str, str | int] = {"user": _user_name(uid), "uid": uid}
    with contextlib.suppress(OSError, ValueError):  # a kernel without audit
        login = int(Path("/proc/self/loginuid").read_text())
        if login not in (NO_LOGIN_UID, uid):
            who["login"] = _user_name(login)
    return who


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _now_text() -> str:
    now_s = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_s))}.{int(now_s % 1 * 1000):03d}Z"
