"""The faults: SIGKILL of broker, workers, shims and zygotes, SIGSTOP, cut, silent and slow links. One at a time, from a seed."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable

from chaos.proxy import Proxy
from corral_testkit.system import CorralSystem

PAUSE_S = (0.1, 0.9)
"""Between one fault's end and the next one's beginning."""
SHORT_S = (0.2, 1.5)
"""How long a freeze, a silence or a delay lasts."""
CUT_S = 2.0


class Faults:
    """Injects faults in a thread of its own until stopped, and says what it did."""

    def __init__(self, system: CorralSystem, proxy: Proxy, seed: int) -> None:
        self._system, self._proxy = system, proxy
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")
        self.tally: Counter[str] = Counter()
        self.killed_shims: set[str] = set()
        """Container instances whose shim was killed: their processes may be `lost`."""
        self.failure: BaseException | None = None
        self._kinds: list[tuple[int, str, Callable[[], None]]] = [
            (4, "worker killed", self._kill_worker),
            (2, "broker killed", self._kill_broker),
            (3, "shim killed", self._kill_shim),
            (1, "zygote killed", self._kill_zygote),
            (2, "worker frozen", self._freeze_worker),
            (1, "broker frozen", self._freeze_broker),
            (2, "link cut", self._cut),
            (2, "link silent", self._stall),
            (2, "link slow", self._delay),
        ]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the faults; all runs again afterwards. Raises what went wrong in the injecting."""
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        weights = [weight for weight, _, _ in self._kinds]
        try:
            while not self._stop.wait(self._random.uniform(*PAUSE_S)):
                _, name, inject = self._random.choices(self._kinds, weights)[0]
                inject()
                self.tally[name] += 1
        except BaseException as failure:  # noqa: BLE001 - raised again in stop()
            self.failure = failure
        finally:
            self._proxy.heal()

    def _last(self) -> None:
        """Lets a passing fault last a while (or until the end)."""
        self._stop.wait(self._random.uniform(*SHORT_S))

    def _guest(self) -> str:
        return self._random.choice(self._system.names)

    def _kill_worker(self) -> None:
        self._system.restart_worker(self._guest())

    def _kill_broker(self) -> None:
        self._system.restart_broker()

    def _kill_shim(self) -> None:
        name = self._guest()
        sockets = sorted((self._system.run_dir(name) / "s").glob("*.sock"))
        if not sockets:
            return
        instance = self._random.choice(sockets).stem
        self.killed_shims.add(instance)
        try:
            os.kill(self._system.shim_pid(name, instance), signal.SIGKILL)
        except (AssertionError, ProcessLookupError):  # it ended by itself meanwhile
            return

    def _kill_zygote(self) -> None:
        pid = self._system.zygote_pid(self._guest())
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def _freeze_worker(self) -> None:
        worker = self._system.workers[self._guest()]
        worker.freeze()
        self._last()
        worker.thaw()

    def _freeze_broker(self) -> None:
        self._system.broker.freeze()
        self._last()
        self._system.broker.thaw()

    def _cut(self) -> None:
        self._proxy.cut()
        self._stop.wait(CUT_S)
        self._proxy.heal()

    def _stall(self) -> None:
        self._proxy.stall()
        self._last()
        self._proxy.heal()

    def _delay(self) -> None:
        self._proxy.delay(self._random.uniform(0.005, 0.1))
        self._last()
        self._proxy.heal()
