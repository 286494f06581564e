"""Starting the runtime, by posix_spawn: no fork of ours in between."""

from __future__ import annotations

import os
import resource
import signal

from corral_worker.shim.base.linux import is_exhausted
from corral_worker.shim.ledger.answers import RequestError

_DEVNULL = "/dev/null"
# Soft limit of open files for what names none in its config.json: programs that go by select(2), or over all numbers up to it, rely on it.
OPEN_FILES = 1024
SIGNALS = sorted(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def spawn(argv: list[str], stdio: tuple[int, int, int] = (-1, -1, -1)) -> int:
    """Run a program with the given descriptors as its standard ones (-1: /dev/null); returns its pid.

    Signals and the soft limit of open files are as a login shell would have them, whatever the shim has for itself.

    Raises:
        RequestError: kind ``spawn``, the program is missing or not executable; ``resource_exhausted``.
    """
    actions: list[tuple[int, int] | tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    for target, source in enumerate(stdio):
        if source >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        else:
            mode = os.O_RDONLY if target == 0 else os.O_WRONLY
            actions.append((os.POSIX_SPAWN_OPEN, target, _DEVNULL, mode, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, OPEN_FILES) if soft >= 0 else OPEN_FILES, hard))
    try:
        return os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=actions,
            setsigmask=[],
            setsigdef=SIGNALS,
        )
    except OSError as error:
        kind = "resource_exhausted" if is_exhausted(error) else "spawn"
        raise RequestError(kind, f"{argv[0]}: {error.strerror}") from error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
