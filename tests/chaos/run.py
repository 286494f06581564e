"""Chaos: real processes under random faults, judged by a witness. `python tests/chaos/run.py --minutes 20 --seed 1`"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.diary import facts_in
from chaos.faults import Faults
from chaos.verdict import BREACHES, Verdict, judge
from chaos.world import World, open_world
from corral_testkit.shim_driver import wait_until

HEARD_S = 60.0
"""After the end, for readers of events to hear of every exit."""
LOGS = Path("chaos-runs")


def chaos(seconds: float, seed: int, guests: int = 2, logs: Path = LOGS) -> tuple[Verdict, str]:
    """Runs the workload under faults for so long, lets it come to its end without them, and judges.

    Returns the verdict and the tally in words. What a breach or a failure is to be understood by is kept below `logs`, which the tally (or
    a note on the exception) names.
    """
    kept = logs / f"seed-{seed}-{time.strftime('%m%d-%H%M%S')}-{os.getpid()}"
    began_s = time.monotonic()
    verdict, told = Verdict(), f"seed {seed}"
    try:
        with open_world(seed, guests) as world:
            faults = Faults(world, seed, world.system.directory / "faults.log")
            try:
                _work(world, faults, seconds)
                verdict = judge(world.diaries, world.witness, seed, world.system.names, faults.killed_shims)
                verdict.counts["faults"] = sum(faults.tally.values())
                told = report(verdict, faults, seed, time.monotonic() - began_s)
            finally:
                world.keep_logs(kept)
    except BaseException as failure:
        failure.add_note(f"{told}\nlogs, diaries and journals: {kept.absolute()}")
        raise
    if verdict.breaches:
        (kept / "tally.txt").write_text(told)
        return verdict, f"{told}\nlogs, diaries and journals: {kept.absolute()}"
    shutil.rmtree(kept)
    return verdict, told


def _work(world: World, faults: Faults, seconds: float) -> None:
    for service in [*world.consumers, *world.clients]:
        service.start()
    faults.start()
    try:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not faults.failed and all(client.alive or not client.running for client in world.clients):
            time.sleep(0.2)  # nothing to wait for but the end
    finally:
        faults.stop()
    world.clock.set(0)
    world.let_clients_end()
    seen = _exits_seen(world)
    wait_until(
        lambda: all(seen <= _exits_heard(path) for path in world.diaries.glob("events-*")), "readers of events hear of every exit", HEARD_S
    )


def _exits_seen(world: World) -> set[str]:
    """Process instances of which a client knows the exit."""
    instances: set[str] = set()
    for path in world.diaries.glob("client-*"):
        facts = facts_in(path)
        made = {fact["token"]: fact["process_instance"] for fact in facts if fact["kind"] == "made"}
        instances |= {made[fact["token"]] for fact in facts if fact["kind"] == "exit"}
    return instances


def _exits_heard(path: Path) -> set[str]:
    return {fact["process"] for fact in facts_in(path) if fact["kind"] == "event" and fact["what"] == "exit"}


def report(verdict: Verdict, faults: Faults, seed: int, seconds: float) -> str:
    """The tally."""
    by_kind = ", ".join(f"{name} {count}" for name, count in faults.tally.most_common())
    breaches = dict.fromkeys(BREACHES, 0)
    for kind, _ in verdict.breaches:
        breaches[kind] += 1
    rows = [f"seed {seed}, {seconds:.0f} s", f"faults: {verdict.counts['faults']} ({by_kind})"]
    rows += ["operations: " + ", ".join(f"{name} {count}" for name, count in verdict.operations.most_common())]
    rows += ["seen: " + ", ".join(f"{name} {count}" for name, count in verdict.counts.most_common())]
    rows += ["breaches: " + ", ".join(f"{kind} {count}" for kind, count in breaches.items())]
    return "\n".join([*rows, *(f"  {kind}: {text}" for kind, text in verdict.breaches[:40])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guests", type=int, default=2)
    parser.add_argument("--logs", type=Path, default=LOGS, help="Where a failing run leaves its logs.")
    options = parser.parse_args()
    print(f"chaos for {options.minutes:g} min, seed {options.seed}", flush=True)
    verdict, told = chaos(options.minutes * 60, options.seed, options.guests, options.logs)
    print(told)
    return 1 if verdict.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
