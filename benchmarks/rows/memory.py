"""At rest: memory of shim, worker and broker, memory per further container, CPU that is used when nothing happens."""

import asyncio

from corral import AsyncClient
from kit.bench import Bench, Row
from kit.figures import Figure
from kit.usage import KIB, MIB, cpu_shares, private_bytes, resident_bytes

SLEEPER = ("sleep", "100000")


async def at_rest(bench: Bench) -> list[Figure]:
    """A fleet with nothing to do: first without containers, then with some that sleep."""
    containers = bench.rounds(20, 100)
    with bench.fleet() as fleet:
        async with AsyncClient(fleet.address, timeout_s=120) as client:
            await bench.guests_up(client, 1)
            assert fleet.broker is not None
            worker, broker = fleet.workers["g1"].pid, fleet.broker.pid
            empty = [resident_bytes(worker), resident_bytes(broker)]
            bundle = bench.bundle(*SLEEPER)
            first = await client.guest("g1").run("c0", bundle=bundle)
            warm = private_bytes(worker) + private_bytes(broker)
            made = [first, *[await client.guest("g1").run(f"c{number}", bundle=bundle) for number in range(1, containers + 1)]]
            more = private_bytes(worker) + private_bytes(broker)
            shims = fleet.wait_for_shims(containers + 1)
            private = [private_bytes(pid) / MIB for pid in shims]
            await asyncio.sleep(2)  # what making them set off is over
            shares = [100 * share for share in await cpu_shares([worker, broker, *shims], bench.rounds(6, 30))]
            for container in made:
                await container.delete(force=True)
    return [
        Figure(name="shim, private", unit="MiB", samples=private, target="≤ 1.2", value_max=1.2, note="its container asleep"),
        Figure(name="worker at rest, resident", unit="MiB", samples=[empty[0] / MIB], target="≤ 45", value_max=45),
        Figure(name="broker at rest, resident", unit="MiB", samples=[empty[1] / MIB]),
        Figure(
            name="per further container outside shims",
            unit="KiB",
            samples=[(more - warm) / containers / KIB],
            target="≤ 20",
            value_max=20,
            note=f"private memory of worker and broker over {containers} containers",
        ),
        Figure(name="worker, idle", unit="% of core", samples=[shares[0]], target="< 0.5", value_max=0.5),
        Figure(name="broker, idle", unit="% of core", samples=[shares[1]]),
        Figure(name="all shims together, idle", unit="% of core", samples=[sum(shares[2:])]),
    ]


ROWS: dict[str, Row] = {"at-rest": at_rest}
