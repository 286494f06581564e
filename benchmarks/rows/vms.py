"""Real guests in QEMU, emulated: from nothing to containers in three of them, and what a worker takes in one."""

import asyncio
import contextlib
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral import AsyncClient, ContainerSpec
from kit.bench import Bench, Row
from kit.figures import Figure, MissingError
from kit.fleet import Daemon
from kit.usage import KIB, MIB

REPOSITORY = Path(__file__).resolve().parents[2]
PORT = 17_690
NAMES = ("vm1", "vm2", "vm3")


async def guests_in_qemu(bench: Bench) -> list[Figure]:
    """Each round: a template is booted and frozen, three clones of it register, and each runs its first container to its end."""
    if shutil.which("qemu-system-x86_64") is None:
        raise MissingError("qemu-system-x86_64 (make vm-up installs it)")
    sys.path += [str(REPOSITORY / "deploy" / folder) for folder in ("vm", "lock")]  # in no wheel
    try:
        samples, resident = zip(*[await _round(bench) for _ in range(bench.rounds(1, 3))], strict=True)
    finally:
        sys.path.pop(0)
    return [
        Figure(
            name="template and 3 clones, to the first container's end in each",
            unit="s",
            samples=list(samples),
            target="≤ 15",
            value_max=15,
            note="image cached, template not",
        ),
        Figure(name="worker in a guest, resident", unit="MiB", samples=list(resident), target="≤ 64", value_max=64),
    ]


async def _round(bench: Bench) -> tuple[float, float]:
    """Seconds, and MiB of vm1's worker."""
    from corral_vm.argv import HOST_IN_GUEST
    from corral_vm.image import ready_image
    from corral_vm.machine import Identity, Machine
    from corral_vm.template import Template

    image, directory = ready_image(), bench.fresh("vm")
    address = f"tcp://127.0.0.1:{PORT}"
    directory.mkdir()
    with contextlib.ExitStack() as opened:
        broker = Daemon([sys.executable, "-m", "corral_broker", "--bind", address, "--insecure"], directory / "broker.log")
        opened.callback(broker.stop)
        pool = opened.enter_context(ThreadPoolExecutor(len(NAMES)))  # a machine ends with the thread that started it
        client = AsyncClient(address, timeout_s=120)
        async with client:
            begun = time.perf_counter()
            making = [pool.submit(Machine, image, directory / name) for name in NAMES]
            with Machine(image, directory / "template") as machine:
                machine.make_template(directory / "memory", directory / "devices")
            template = Template(image, directory / "memory", directory / "devices")
            machines = [opened.enter_context(made.result()) for made in making]
            list(pool.map(lambda machine: template.clone(machine, Identity(machine.name, f"tcp://{HOST_IN_GUEST}:{PORT}")), machines))
            await bench.guests_up(client, len(NAMES), timeout_s=120)
            await asyncio.gather(*(_first_container(client, name) for name in NAMES))
            seconds = time.perf_counter() - begun
            smaps = machines[0].shell("cat /proc/$(cat /var/lib/corral/vm1/lock)/smaps_rollup")
    found = re.search(r"^Rss:\s+(\d+) kB", smaps, re.MULTILINE)
    assert found is not None, smaps
    return seconds, int(found[1]) * KIB / MIB


async def _first_container(client: AsyncClient, name: str) -> None:
    container = await client.guest(name).run("first", spec=ContainerSpec(rootfs="/srv/busybox", args=["true"]))
    assert (await container.wait()).code == 0


ROWS: dict[str, Row] = {"guests-in-qemu": guests_in_qemu}
