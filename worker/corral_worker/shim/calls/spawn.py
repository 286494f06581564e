"""Starting the runtime, by posix_spawn: no fork of ours in between."""

from __future__ import annotations

import os
import signal

from corral_worker.shim.ledger.answers import RequestError

_DEVNULL = "/dev/null"
_SIGNALS = sorted(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def spawn(argv: list[str], stdio: tuple[int, int, int] = (-1, -1, -1)) -> int:
    """Run a program with the given descriptors as its standard ones (-1: /dev/null); returns its pid.

    Signals are as a login shell would have them: nothing ignored, nothing blocked.

    Raises:
        RequestError: kind ``spawn``, the program is missing or not executable.
    """
    actions: list[tuple[int, int] | tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    for target, source in enumerate(stdio):
        if source >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        else:
            mode = os.O_RDONLY if target == 0 else os.O_WRONLY
            actions.append((os.POSIX_SPAWN_OPEN, target, _DEVNULL, mode, 0))
    try:
        return os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=actions,
            setsigmask=[],
            setsigdef=_SIGNALS,
        )
    except OSError as error:
        raise RequestError("spawn", f"{argv[0]}: {error.strerror}") from error
