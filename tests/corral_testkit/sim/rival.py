"""A clone of a guest that comes up while the guest is there: brokers refuse its worker."""

from __future__ import annotations

import asyncio
from functools import partial

from corral_testkit.sim.disk import Disk, SimStore
from corral_testkit.sim.guest import SimGuest
from corral_testkit.sim.process import Host, Process
from corral_testkit.sim.shims import SimShims
from corral_testkit.sim.sockets import SimDialer
from corral_worker.base.paths import GuestPaths
from corral_worker.containers.guest import Settings
from corral_worker.runtime.runc import Runtime
from corral_worker.service import Parts, Worker

LIVES_S = 0.5
"""Shorter than a broker waits for a sign of life of the worker that is there: if that one is silent just now, nobody becomes the guest."""


def start_rival(guest: SimGuest, number: int, brokers: list[str]) -> Process:
    """A worker on a machine of its own, with a disk of its own, which says that it is this guest. It ends with the guest's own worker."""
    paths = GuestPaths(guest.paths.state.parent / f"rival{number}" / "state", guest.paths.state.parent / f"rival{number}" / "run")
    paths.make()
    process = Process(guest.loop, Host(f"{guest.name}-rival{number}"), f"rival{number}-{guest.name}")
    settings = Settings(guest=guest.name, paths=paths, runtime=Runtime("runc", paths.runtime_root))
    parts = Parts(
        open_store=partial(SimStore, Disk(guest.randomness), process),
        shims=SimShims(guest, process),
        dialer=SimDialer(guest.network, process),
    )

    async def run() -> None:
        await Worker(settings, brokers, "runc simulated", parts).run(asyncio.Event(), lambda: None)

    process.spawn(run())
    guest.loop.call_later(LIVES_S, process.kill, context=guest.network.context)
    assert guest.worker is not None
    guest.worker.on_death.append(process.kill)
    return process
