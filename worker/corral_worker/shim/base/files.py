"""Removing what is left of something."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from corral_worker.shim.base.light import Path


def remove_tree(directory: Path) -> bool:
    """Remove a directory with all that is in it; True when it is gone. What resists stays."""
    for path, directories, names in os.walk(directory, topdown=False):
        for name in names:
            _try(os.unlink, os.path.join(path, name))
        for name in directories:
            entry = os.path.join(path, name)
            _try(os.unlink if os.path.islink(entry) else os.rmdir, entry)  # noqa: PTH114
    _try(os.rmdir, directory)
    return not directory.exists()


def _try(remove: Callable[[str], None], path: str | Path) -> None:
    with contextlib.suppress(OSError):  # whoever needs it gone looks whether it is
        remove(str(path))
