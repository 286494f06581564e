"""A real interactive shell on a pseudo-terminal."""

import contextlib
import os
import pty
import signal
import sys
import time
from pathlib import Path
from types import TracebackType

from corral_testkit.shim_driver import readable

PATIENCE_S = 20.0


class Shell:
    """`argv` with our environment's `corral` on its PATH. Type into it, and wait for what it shows."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        path = f"{Path(sys.executable).parent}:{environment['PATH']}"
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.execvpe(argv[0], argv, {**environment, "PATH": path, "TERM": "dumb", "PS1": "", "COLUMNS": "200"})
        self.shown = ""

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> str:
        """Reads until `text` is shown, after what earlier calls have found; what was shown before it."""
        until_s = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert readable(self._master, max(0.0, until_s - time.monotonic())), f"{text!r} did not come, only {self.shown!r}"
            with contextlib.suppress(OSError):  # EIO: it has ended
                data = os.read(self._master, 1 << 16)
                self.shown += data.decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before
