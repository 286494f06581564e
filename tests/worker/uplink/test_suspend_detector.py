"""A worker that stood still counts the time that commands have been waiting for it; one that was merely idle does not."""

from __future__ import annotations

from corral_testkit.sim.loop import SimLoop
from corral_testkit.sim.process import Host, Process
from corral_worker.uplink.suspend_detector import SuspendDetector


class Watched:
    """One that runs in a simulated process, from second 1000 on."""

    def __init__(self) -> None:
        self.loop = SimLoop(lambda: 0.0)
        self.process = Process(self.loop, Host("h"), "worker")
        self.received: list[float] = []
        self.process.spawn(self._run())

    async def _run(self) -> None:
        self.standing_still = SuspendDetector()
        self.standing_still.watch()

    def command_at(self, at_s: float) -> None:
        """A command that comes then; when it can have arrived at the earliest goes to `received`."""

        def handle() -> None:
            self.received.append(self.standing_still.received_s(self.loop.time()))

        self.loop.call_at(at_s, self.process.call_soon, handle)

    def run_until(self, at_s: float) -> None:
        self.loop.run_until(None, at_s)


def test_a_command_after_an_idle_while_has_all_its_time() -> None:
    watched = Watched()
    watched.command_at(1004.9)  # nothing else was received in these seconds
    watched.run_until(1005.0)
    assert watched.received == [1004.9]


def test_a_command_that_waited_while_the_worker_stood_still_has_lost_that_time() -> None:
    watched = Watched()
    watched.loop.call_at(1003.2, watched.process.freeze)
    watched.command_at(1004.0)
    watched.loop.call_at(1008.2, watched.process.thaw)
    watched.command_at(1009.5)
    watched.run_until(1010.0)
    waited, fresh = watched.received
    assert 1002.6 < waited <= 1003.2
    assert fresh == 1009.5
