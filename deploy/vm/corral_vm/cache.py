"""Results kept by the hash of what they were made from: made once, whoever asks first, never seen half done."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

KEPT = 2
"""Results of a kind that are kept; older ones are removed when a new one is made."""


def digest(parts: Iterable[bytes | str | Path]) -> str:
    """A short hash of texts, bytes and the contents of files."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()[:16]


def cached(cache: Path, kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory CACHE/KIND-KEY; `make` fills it where there is none yet. Whatever `make` raises is passed on, and nothing is kept."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / f"{kind}-{key}"
    with (cache / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.exists():
            unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
            try:
                make(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(wanted)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            _prune(cache, kind)
        wanted.touch()
    return wanted


def _prune(cache: Path, kind: str) -> None:
    """Machines that run from a removed result go on: they hold its files open."""
    for old in sorted(cache.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it too
            shutil.rmtree(old)
