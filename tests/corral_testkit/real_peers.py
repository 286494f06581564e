"""A real broker and a real worker as processes of their own, to be killed and started again at will."""

import contextlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from corral_testkit.bundles import make_rootfs

READY_S = 20.0


class RealPeers:
    """Use as a context manager; containers still there at the end are the test's fault and fail it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rootfs = make_rootfs(directory / "rootfs")
        self.address = f"ipc://{directory}/b/broker"
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> "RealPeers":
        self.start_broker()
        self.start_worker()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for name in ("worker", "broker"):
            process = self._processes.pop(name)
            process.terminate()
            with process:
                process.wait(READY_S)
        left = subprocess.run(["pgrep", "-af", str(self.directory)], capture_output=True, text=True, check=False, timeout=READY_S).stdout
        if kind is None:
            assert not left, f"processes left over:\n{left}"

    def start_broker(self) -> None:
        self._start("broker", "-m", "corral_broker", "--bind", self.address, "--state-dir", str(self.directory / "broker-state"))

    def start_worker(self) -> None:
        places = ["--state-dir", str(self.directory / "state"), "--run-dir", str(self.directory / "run")]
        self._start("worker", "-m", "corral_worker", "--guest", "g1", "--broker", self.address, *places)

    def kill(self, name: str) -> None:
        """SIGKILL to `broker` or `worker`."""
        process = self._processes.pop(name)
        process.kill()
        with process:
            process.wait(READY_S)

    def _start(self, name: str, *argv: str) -> None:
        with contextlib.ExitStack() as undo:
            process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            undo.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "ready" in line, f"{name} said {line!r}"
            undo.pop_all()
        self._processes[name] = process
