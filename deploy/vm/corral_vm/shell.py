"""Where things are, and running the tools that make them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / "build" / "vm"
STDERR_CHARS_SHOWN = 3000


class BuildError(Exception):
    """Something cannot be made here; the text says what to do."""


def run(argv: list[str], *, hint: str = "deploy/vm/setup.sh installs what is needed", directory: Path | None = None) -> str:
    """Its stdout. Raises BuildError with what it said."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment, cwd=directory)
    except OSError as why:
        raise BuildError(f"{argv[0]} cannot be run ({why.strerror}): {hint}") from why
    if done.returncode:
        said = done.stderr.strip()[-STDERR_CHARS_SHOWN:]
        raise BuildError(f"{' '.join(argv)} failed with status {done.returncode} ({hint}):\n{said}")
    return done.stdout
