"""The faults: SIGKILL and SIGSTOP of every part, links that are cut, silent, slow or half closed, full disks, jumps of the wall clock.

One at a time, from a seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from chaos.world import World
from corral_testkit.system import Service

PAUSE_S = (0.1, 0.9)
"""Between one fault's end and the next one's beginning."""
SHORT_S = (0.2, 1.5)
"""How long a freeze, a silence, a delay or a full disk lasts."""
CUT_S = 2.0
JUMPS_S = (-30 * 86_400, -86_400, -3_600, -5, 0, 5, 3_600, 86_400, 5 * 86_400)
"""Where the wall clock may stand from the machine's. Events alone are kept by it, for seven days."""


class Faults:
    """Injects faults in a thread of its own until stopped, and says what it did."""

    def __init__(self, world: World, seed: int, log: Path) -> None:
        self._world, self._system, self._proxy = world, world.system, world.proxy
        self._log = log
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")
        self.tally: Counter[str] = Counter()
        self.killed_shims: set[str] = set()
        """Names of the containers whose shim was killed: their processes may be `lost`."""
        self._failure: BaseException | None = None
        self._kinds: list[tuple[int, str, Callable[[], object]]] = [
            (4, "worker killed", self._kill_worker),
            (2, "broker killed", self._system.restart_broker),
            (3, "shim killed", self._kill_shim),
            (2, "zygote killed", lambda: self._signal_zygote(signal.SIGKILL)),
            (2, "client killed", lambda: self._kill(world.clients)),
            (1, "event reader killed", lambda: self._kill(world.consumers)),
            (2, "worker frozen", lambda: self._freeze(self._worker())),
            (1, "broker frozen", lambda: self._freeze(self._system.broker)),
            (2, "shim frozen", self._freeze_shim),
            (1, "zygote frozen", self._freeze_zygote),
            (1, "client frozen", lambda: self._freeze(self._random.choice(world.clients))),
            (1, "event reader frozen", lambda: self._freeze(self._random.choice(world.consumers))),
            (2, "link cut", self._cut),
            (1, "link silent", lambda: self._stall("to broker", "from broker")),
            (2, "link silent one way", lambda: self._stall(self._random.choice(["to broker", "from broker"]))),
            (1, "link slow", self._delay),
            (2, "link half closed", self._half_close),
            (2, "disk full", self._fill_disk),
            (2, "clock jumped", lambda: world.clock.set(self._random.choice(JUMPS_S))),
        ]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the faults; all runs again afterwards. Raises what went wrong in the injecting."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def _run(self) -> None:
        weights = [weight for weight, _, _ in self._kinds]
        try:
            while not self._stop.wait(self._random.uniform(*PAUSE_S)):
                _, name, inject = self._random.choices(self._kinds, weights)[0]
                with self._log.open("a") as log:
                    print(f"{time.strftime('%H:%M:%S')} {time.monotonic():.3f} {name}: ", end="", file=log, flush=True)
                    told = inject()
                    print(told or "", f"until {time.monotonic():.3f}", file=log)
                if told != "nothing there":
                    self.tally[name] += 1
        except BaseException as failure:  # noqa: BLE001 - raised again in stop()
            self._failure = failure
        finally:
            self._proxy.heal()

    def _last(self) -> None:
        """Lets a passing fault last a while (or until the end)."""
        self._stop.wait(self._random.uniform(*SHORT_S))

    def _guest(self) -> str:
        return self._random.choice(self._system.names)

    def _worker(self) -> Service:
        return self._system.workers[self._guest()]

    def _kill_worker(self) -> str:
        name = self._guest()
        self._system.restart_worker(name)
        return name

    def _kill(self, services: list[Service]) -> None:
        service = self._random.choice(services)
        service.kill()
        service.start()

    def _freeze(self, service: Service) -> None:
        service.freeze()
        self._last()
        service.thaw()

    def _shim(self) -> tuple[int, str] | None:
        """pid of some shim, and its container's name."""
        name = self._guest()
        sockets = sorted((self._system.run_dir(name) / "s").glob("*.sock"))
        with contextlib.suppress(AssertionError, OSError):  # it ended by itself meanwhile
            pid = self._system.shim_pid(name, self._random.choice(sockets).stem) if sockets else 0
            title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().split()
            if title[:2] == ["corral-shim", name]:
                return pid, title[2]
        return None

    def _kill_shim(self) -> str:
        if (found := self._shim()) is None:
            return "nothing there"
        pid, container = found
        self.killed_shims.add(container)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return "nothing there"
        return container

    def _freeze_shim(self) -> str:
        if (found := self._shim()) is None:
            return "nothing there"
        with self._frozen(found[0]):
            self._last()
        return found[1]

    def _signal_zygote(self, number: int) -> str:
        pid = self._system.zygote_pid(self._guest())
        if pid is None:
            return "nothing there"
        os.kill(pid, number)
        return str(pid)

    def _freeze_zygote(self) -> str:
        pid = self._system.zygote_pid(self._guest())
        if pid is None:
            return "nothing there"
        with self._frozen(pid):
            self._last()
        return str(pid)

    @contextlib.contextmanager
    def _frozen(self, pid: int) -> Iterator[None]:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            pidfd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
                yield
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            finally:
                os.close(pidfd)

    def _cut(self) -> None:
        self._proxy.cut()
        self._stop.wait(CUT_S)
        self._proxy.heal()

    def _stall(self, *ways: str) -> str:
        self._proxy.stall(*ways)
        self._last()
        self._proxy.heal()
        return ", ".join(ways)

    def _delay(self) -> None:
        self._proxy.delay(self._random.uniform(0.005, 0.1))
        self._last()
        self._proxy.heal()

    def _half_close(self) -> None:
        self._proxy.half_close()
        self._last()
        self._proxy.heal()

    def _fill_disk(self) -> str:
        name = self._guest()
        disk = self._world.disks[name]
        disk.fill(self._random.choice([0, 0, 16 << 10, 256 << 10]))
        try:
            self._last()
        finally:
            disk.free()
        return name
