"""What one client saw, a line each as it saw it: all that is left of a client that was killed, and what its successor goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

Fact = dict[str, Any]


class Diary:
    """Appends facts to a file; each is there once `note` returns, even if the process is killed next."""

    def __init__(self, path: Path) -> None:
        self._keep_whole_lines(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def note(self, kind: str, token: str = "", **details: Any) -> Fact:
        """One fact; `token`: the process it is about."""
        fact = {"kind": kind, "token": token, **details}
        line = msgspec.json.encode(fact) + b"\n"
        assert os.write(self._fd, line) == len(line)
        return fact

    def close(self) -> None:
        os.close(self._fd)

    @staticmethod
    def _keep_whole_lines(path: Path) -> None:
        if path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.truncate(path, whole)


def facts_in(path: Path) -> list[Fact]:
    """All whole facts of a diary, none where there is none yet."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Fact) for line in path.read_bytes().split(b"\n")[:-1]]
