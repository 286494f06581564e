"""Searches for holes: runs many seeds, shrinks what fails, and says how to see it again.

python tests/simulation/run.py --seeds 10000 --jobs 2
python tests/simulation/run.py --seed 4711 [--faults 1,4] [--steps 3,5]
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from corral_testkit.sim.loop import LivelockError
from corral_testkit.sim.messages import kinds
from corral_testkit.sim.scenario import FAULTS, Scenario, is_silent
from corral_testkit.sim.scenario_maker import make_scenario
from corral_testkit.sim.shrink import shrink
from corral_testkit.sim.simulation import Result, run_scenario

CHUNK = 8
CPU_S_MAX = 30.0
"""A run takes a quarter of a second, and five for each hour of silence; one that takes so long, and each hour so, goes round in circles."""


def one(scenario: Scenario) -> Result:
    """A run that does not come to its end is a finding too."""
    signal.signal(signal.SIGPROF, _went_round)
    signal.setitimer(signal.ITIMER_PROF, CPU_S_MAX * (1 + scenario.duration_s / 3_600))
    try:
        return run_scenario(scenario)
    except LivelockError as why:
        return Result(scenario.seed, [f"G15 livelock: {why}"], "")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _went_round(number: int, frame: object) -> None:
    raise LivelockError(f"one run took {CPU_S_MAX:.0f} s of a core, and as long again for each simulated hour")


def run_seed(seed: int) -> Result:
    return one(make_scenario(seed))


def results(seeds: range, jobs: int) -> Iterator[Result]:
    """In any order."""
    gc.freeze()  # what is there by now stays: no collection need look at it
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with get_context("fork").Pool(jobs, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(run_seed, seeds, CHUNK)


def search(seeds: range, jobs: int, shrink_s: float) -> bool:
    """True when nothing was found."""
    began_s, failing, figures = time.perf_counter(), [], Counter[str]()
    coverage = Counter[tuple[str, str]]()
    for number, result in enumerate(results(seeds, jobs), 1):
        figures.update(result.figures)
        coverage.update(result.coverage)
        if result.findings:
            failing.append(result)
            print(f"seed {result.seed} fails: {result.findings[0]}", flush=True)
        if number % 200 == 0:
            print(f"{number} seeds, {len(failing)} failing, {number / (time.perf_counter() - began_s):.1f} seeds/s", flush=True)
    took_s = time.perf_counter() - began_s
    print(f"{len(seeds)} seeds in {took_s:.0f} s ({len(seeds) / took_s:.1f}/s): {len(failing)} failing; {dict(figures)}")
    if not is_silent(seeds.start):
        print_coverage(coverage)
    for result in failing[:3] if shrink_s else []:
        print_shrunk(result, shrink_s)
    return not failing


def until_found(seeds: range, jobs: int) -> bool:
    """Stops at the first seed that fails; True when none does."""
    for number, result in enumerate(results(seeds, jobs), 1):
        if result.findings:
            print(f"found after {number} seeds: seed {result.seed}: {result.findings[0]}", flush=True)
            return False
    print(f"not found in {len(seeds)} seeds")
    return True


def print_coverage(coverage: Counter[tuple[str, str]]) -> None:
    """Message type × fault: how often a message was delivered while the fault lasted; and which pairs never were."""
    faults, every = list(FAULTS), kinds()
    print("\nmessage".ljust(16), *(fault[:9].rjust(9) for fault in faults))
    for kind in every:
        print(kind.ljust(15), *(str(coverage[fault, kind]).rjust(9) for fault in faults))
    absent = [kind for kind in every if not any(coverage[fault, kind] for fault in faults)]
    unmet = [f"{fault} × {kind}" for fault in faults for kind in every if kind not in absent and not coverage[fault, kind]]
    print(f"{len(faults)} faults × {len(every)} message types; {len(unmet)} pairs never met: {', '.join(unmet) or '-'}")
    print(f"message types that met no fault at all: {', '.join(absent) or '-'}")


def print_shrunk(result: Result, seconds: float) -> None:
    print(f"\nseed {result.seed}: {result.findings[0]}")
    small = shrink(make_scenario(result.seed), result.findings[0], one, seconds)
    for fault in small.faults:
        print(f"  {fault.at_s:7.3f} {fault.kind} target {fault.target}/{fault.other} for {fault.lasts_s:.3f} s")
    faults, steps = (",".join(str(part.number) for part in parts) for parts in (small.faults, small.steps))
    print(f"  {len(small.steps)} steps, {len(small.faults)} faults are enough; again with")
    print(f"  python tests/simulation/run.py --seed {result.seed} --faults {faults or 'none'} --steps {steps}")


def chosen(numbers: str | None) -> set[int] | None:
    if numbers is None:
        return None
    return set() if numbers == "none" else {int(number) for number in numbers.split(",")}


def show(scenario: Scenario) -> bool:
    """One run, twice: it must be the same."""
    first, second = one(scenario), one(scenario)
    print(f"seed {scenario.seed}: {len(scenario.steps)} steps, {len(scenario.faults)} faults, trace {first.trace}, {first.figures}")
    for finding in first.findings:
        print(f"  {finding}")
    if first.trace != second.trace:
        print(f"  the second run went another way: {second.trace}")
    return not first.findings and first.trace == second.trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="just this one, told at length")
    parser.add_argument("--faults", help="with --seed: only these of its faults (numbers, or none)")
    parser.add_argument("--steps", help="with --seed: only these of its steps")
    parser.add_argument("--until-found", action="store_true", help="stop at the first that fails")
    parser.add_argument("--shrink-seconds", type=float, default=60.0, help="for each of the first three that fail; 0: not at all")
    chosen_by = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what a seed decides
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    if chosen_by.seed is not None:
        scenario = make_scenario(chosen_by.seed).only(chosen(chosen_by.faults), chosen(chosen_by.steps))
        sys.exit(0 if show(scenario) else 1)
    seeds = range(chosen_by.first, chosen_by.first + chosen_by.seeds)
    if chosen_by.until_found:
        sys.exit(0 if until_found(seeds, chosen_by.jobs) else 1)
    sys.exit(0 if search(seeds, chosen_by.jobs, chosen_by.shrink_seconds) else 1)


if __name__ == "__main__":
    main()
