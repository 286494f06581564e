"""The worker's way to its simulated shims (`corral_worker.shims.port.Shims`): forks, and connections that keep their order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corral_testkit.sim.process import Process
from corral_testkit.sim.shim import SimShim
from corral_worker.shim.base.wire import Message
from corral_worker.shims.port import ShimGoneError, ShimLink, ShimObserver

if TYPE_CHECKING:
    from corral_testkit.sim.guest import SimGuest


class ShimConnection:
    """A Unix socket between a worker and a shim: what was written before an end closed is still read."""

    def __init__(self, shim: SimShim, worker: Process, link: ShimLink) -> None:
        self._shim, self._worker, self._link = shim, worker, link
        self._up_s = self._down_s = 0.0  # when the last message each way arrives
        self.alive = True
        self._reads = True  # the shim has not closed its end
        worker.on_death.append(self.close)

    def _delay(self, last_s: float) -> tuple[float, float]:
        now_s = self._shim.guest.loop.time()
        at_s = max(last_s, now_s + 0.000_02 + self._shim.guest.randomness.random() * 0.000_5)
        return at_s, at_s - now_s

    # the worker's end (corral_worker.shims.shim_link.Stream)

    def send(self, message: Message, blob: bytes = b"") -> None:
        if self.alive:
            self._up_s, delay_s = self._delay(self._up_s)
            self._shim.process.call_later(delay_s, self._at_shim, message, blob)

    def close(self) -> None:
        if self.alive:
            self.alive = False
            self._up_s, delay_s = self._delay(self._up_s)
            self._shim.process.call_later(delay_s, self._shim.connection_lost, self)

    # the shim's end

    def _at_shim(self, message: Message, blob: bytes) -> None:
        if self._reads:
            self._shim.message(self, message, blob)

    def to_worker(self, message: Message) -> None:
        self._down_s, delay_s = self._delay(self._down_s)
        self._worker.call_later(delay_s, self._at_worker, message)

    def shim_closes(self) -> None:
        if self._reads:
            self._reads = False
            self._down_s, delay_s = self._delay(self._down_s)
            self._worker.call_later(delay_s, self._ended)

    def _at_worker(self, message: Message) -> None:
        if self.alive:
            self._link.message(message, b"")

    def _ended(self) -> None:
        if self.alive:
            self.alive = False
            self._link.closed()


class SimShims:
    """Of one worker process."""

    def __init__(self, guest: SimGuest, process: Process) -> None:
        self._guest, self._process = guest, process

    async def start(self) -> None:
        await asyncio.sleep(0.001)

    async def fork(self, instance: str, name: str) -> None:
        await asyncio.sleep(self._guest.fork_s())
        if instance in self._guest.dying:
            raise ShimGoneError("its last shim died just now")
        if instance not in self._guest.shims:
            self._guest.shims[instance] = SimShim(self._guest, instance, name)

    async def connect(self, instance: str, generation: int, observer: ShimObserver, *, newborn: bool) -> ShimLink:
        shim = self._guest.shims.get(instance)
        if shim is None or not shim.process.alive:
            raise ConnectionRefusedError(f"no shim listens for {instance}")
        link = ShimLink(instance, observer)
        await link.hello(ShimConnection(shim, self._process, link), generation, self._guest.name, newborn=newborn)
        return link

    async def ended(self, instance: str) -> None:
        """A simulated shim takes its runtime calls along."""

    def quit(self) -> None: ...

    def close(self) -> None: ...
