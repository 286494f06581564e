"""Chaos: real processes under random faults, judged by a witness. `python tests/chaos/run.py --minutes 20 --seed 1`"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.faults import Faults
from chaos.proxy import Proxy
from chaos.verdict import Verdict, judge
from chaos.witness import Witness
from chaos.workload import Story, Workload
from corral_testkit.system import CorralSystem

CLIENTS = 6
SETTLE_S = 240.0


def chaos(seconds: float, seed: int, guests: int = 2) -> tuple[Verdict, Story, Faults]:
    """Runs the workload under faults for so long, lets it come to its end without them, and judges."""
    system = CorralSystem(guests, proxied=True)
    story = Story()
    with Proxy(system.directory / "b", system.directory / "p") as proxy, system:
        witness = Witness(system.directory / "witness")
        faults = Faults(system, proxy, seed)
        asyncio.run(_work(system, story, faults, witness, seconds, seed))
        return judge(story, witness, faults.killed_shims), story, faults


async def _work(system: CorralSystem, story: Story, faults: Faults, witness: Witness, seconds: float, seed: int) -> None:
    workload = Workload(system, seed, story, witness)
    live = asyncio.Event()
    consumer = asyncio.ensure_future(workload.consumer(live))
    await live.wait()
    faults.start()
    clients = [asyncio.ensure_future(workload.client(number)) for number in range(CLIENTS)]
    done, _ = await asyncio.wait(clients, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    await asyncio.to_thread(faults.stop)
    workload.stop.set()
    async with asyncio.timeout(SETTLE_S):
        await asyncio.gather(*done, *clients)
        workload.done.set()
        await _one_more_event(system)
        await consumer


async def _one_more_event(system: CorralSystem) -> None:
    """Something for the consumer to wake up by, on every guest."""
    async with system.async_client() as client:
        for name in system.names:
            container = await client.guest(name).run(spec=system.spec("true"), timeout_s=60.0)
            await container.wait()
            await container.delete()


def report(verdict: Verdict, story: Story, faults: Faults, seed: int, seconds: float) -> str:
    """The tally."""
    rows = [f"seed {seed}, {seconds:.0f} s"]
    rows += [f"faults: {sum(faults.tally.values())}  " + ", ".join(f"{name} {count}" for name, count in faults.tally.most_common())]
    rows += ["operations: " + ", ".join(f"{name} {count}" for name, count in story.operations.most_common())]
    rows += ["processes: " + ", ".join(f"{name} {count}" for name, count in verdict.counts.most_common())]
    rows += [f"events: {story.events}, gaps told {story.gaps}, resyncs {story.resyncs}"]
    rows += [f"breaches: {len(verdict.breaches)}", *(f"  {breach}" for breach in verdict.breaches[:40])]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guests", type=int, default=2)
    options = parser.parse_args()
    began_s = time.monotonic()
    verdict, story, faults = chaos(options.minutes * 60, options.seed, options.guests)
    print(report(verdict, story, faults, options.seed, time.monotonic() - began_s))
    return 1 if verdict.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
