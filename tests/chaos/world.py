"""What chaos is let loose on: a Corral on TCP behind a proxy, with small disks, a wall clock of its own, and clients as processes."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.proxy import BACK, FRONT, Proxy, free_port
from chaos.witness import Witness
from corral_testkit.skewed import SkewFile
from corral_testkit.small_disk import SmallDisk
from corral_testkit.system import CorralSystem, Service

DISK_BYTES = 4 << 30
"""Of each guest's state directory. Only what is written takes memory."""
CLIENTS = 3
LANES = 3
CLIENT_ENDS_S = 240.0


@dataclass
class World:
    """Everything that faults may hit."""

    system: CorralSystem
    proxy: Proxy
    disks: dict[str, SmallDisk]
    clock: SkewFile
    witness: Witness
    diaries: Path
    clients: list[Service]
    consumers: list[Service]

    def let_clients_end(self) -> None:
        """No client begins another turn; returns once all have ended. AssertionError, with its log, for one that does not."""
        (self.witness.directory / "stop").touch()
        for client in self.clients:
            status = client.join(CLIENT_ENDS_S)
            assert status == 0, f"a client ended with {status}; its log:\n{client.log}"

    def keep_logs(self, to: Path) -> None:
        """Copies all that tells what happened: logs, diaries, the witness's log, journals."""
        self.system.keep_logs(to)
        for path in [self.witness.directory / "log", *self.diaries.iterdir()]:
            shutil.copy(path, to)


@contextlib.contextmanager
def open_world(seed: int, guests: int) -> Iterator[World]:
    """All of it running but for clients and consumers, which the caller starts; nothing is left of it afterwards."""
    with contextlib.ExitStack() as stack:
        top = Path(tempfile.mkdtemp(prefix="corral-chaos-", dir="/tmp"))
        stack.callback(shutil.rmtree, top)
        clock = SkewFile(top / "clock")
        port = free_port(random.Random(f"port {seed}"))
        system = CorralSystem(
            guests,
            bind=f"tcp://{BACK}:{port}",
            address=f"tcp://{FRONT}:{port}",
            launcher=["corral_testkit.skewed", str(clock.path)],
            states=top,
        )
        disks = {name: stack.enter_context(SmallDisk(system.state_dir(name), DISK_BYTES)) for name in system.names}
        proxy = stack.enter_context(Proxy(port, seed))
        stack.enter_context(system)
        witness = Witness(system.directory / "witness")
        diaries = system.directory / "diaries"
        diaries.mkdir()
        world = World(system, proxy, disks, clock, witness, diaries, [], [])
        world.clients += [_client(world, seed, number) for number in range(CLIENTS)]
        world.consumers += [_consumer(world, "all"), _consumer(world, "exits", "--kinds", "exit")]
        stack.callback(_end_all, world)
        yield world


def _client(world: World, seed: int, number: int) -> Service:
    system = world.system
    argv = ["chaos.client", "--broker", system.address, "--seed", seed, "--client", number, "--lanes", LANES]
    argv += ["--witness", world.witness.directory, "--diaries", world.diaries, "--rootfs", system.rootfs, *system.names]
    return Service([str(word) for word in argv], "ready", system.directory / f"client-{number}.log")


def _consumer(world: World, name: str, *options: str) -> Service:
    argv = ["chaos.consumer", "--broker", world.system.address, "--diary", str(world.diaries / f"events-{name}.jsonl"), *options]
    return Service(argv, "ready", world.system.directory / f"events-{name}.log")


def _end_all(world: World) -> None:
    for service in [*world.clients, *world.consumers]:
        if service.started and service.alive:
            service.kill()
