"""A real terminal: a command in tmux, whose screen is read as text or with its colours, and into which keys are typed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

PATIENCE_S = 30.0


class Tmux:
    """A context manager: a tmux server of its own with one window, in which a bash that knows no start-up files but its own runs.

    Its `corral` is that of this environment.
    """

    def __init__(self, environment: dict[str, str], columns: int = 120, rows: int = 30) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tmux-", dir="/tmp"))
        self._base = ["tmux", "-S", str(self._directory / "s"), "-f", "/dev/null"]
        self._environment = {key: value for key, value in environment.items() if key not in ("TMUX", "NO_COLOR")}
        self._environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        self._typed = ""
        self._size = ["-x", str(columns), "-y", str(rows)]

    def __enter__(self) -> "Tmux":
        config = self._directory / "conf"
        config.write_text('set -g default-terminal "tmux-256color"\nset -g status off\nset -g remain-on-exit on\n')
        self._base[-1] = str(config)
        (self._directory / "rc").write_text("PS1='$ '; unset HISTFILE\n")
        shell = f"exec bash --noprofile --rcfile {self._directory / 'rc'}"
        subprocess.run([*self._base, "new-session", "-d", *self._size, shell], env=self._environment, check=True, timeout=20)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        subprocess.run([*self._base, "kill-server"], check=False, timeout=20, capture_output=True)
        shutil.rmtree(self._directory)

    def type(self, text: str, *, enter: bool = True) -> None:
        """Types the text as it stands."""
        self._typed = text[:20]
        self._tmux("send-keys", "-l", text)
        if enter:
            self._tmux("send-keys", "Enter")

    def key(self, name: str) -> None:
        """A key by tmux's name for it: C-c, Enter, q."""
        self._tmux("send-keys", name)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def shown(self, *, colours: bool = False) -> str:
        """What is on the screen, line by line; with `colours` as text with escape sequences."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def wait_for(self, *texts: str) -> str:
        """Until all of these are on the screen; the screen then."""
        return self._until(lambda shown: all(text in shown for text in texts), str(texts))

    def wait_for_prompt(self) -> str:
        """Until bash asks for the next command; the screen then."""
        return self._until(
            lambda shown: self._typed in shown and (shown.rstrip().endswith("\n$") or shown.strip() == "$"),
            f"a prompt after {self._typed!r}",
        )

    def _until(self, true: Callable[[str], bool], what: str) -> str:
        until_s = time.monotonic() + PATIENCE_S
        while not true(shown := self.shown()):
            assert time.monotonic() < until_s, f"{what} did not come, only:\n{shown}"
            time.sleep(0.05)  # between two looks at the screen
        return shown

    def _tmux(self, *args: str) -> str:
        done = subprocess.run([*self._base, *args], capture_output=True, text=True, check=True, timeout=20, env=self._environment)
        return done.stdout
