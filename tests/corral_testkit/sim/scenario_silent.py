"""Runs that last for hours: processes that print nothing for long, whoever reads and waits all the time, and now and then a short fault."""

from __future__ import annotations

import random

from corral_testkit.sim.runtime import Script
from corral_testkit.sim.scenario import Fault, Scenario, Step

SILENCES_S = (40.0, 100.0, 200.0, 600.0, 600.0, 3_600.0, 4 * 3_600.0)
"""Of which a run has one as its longest."""
DAYS_FROM, DAY_S = 2_000_000, 86_400.0
"""Runs with seeds from there on are silent for a day."""
FAULTS = (
    *("kill_broker", "kill_worker", "stop_worker", "freeze_worker", "freeze_broker", "freeze_client"),
    *("cut", "half_cut", "reset", "slow_line"),
)
"""Guest and broker stand again after each, before anybody's patience is over."""
LASTS_S = (0.05, 0.5, 2.0, 5.0, 9.0)
APART_S = 60.0
"""Between the beginnings of two of them: each is got over before the next."""
FAULTS_MAX = 8
STARTED_S, AFTERWARDS_S = 12.0, 45.0
HOW = ("output", "output", "lines", "run", "wait")


def make_silent_scenario(seed: int) -> Scenario:
    """The same for the same seed."""
    chance = random.Random(f"silent scenario {seed}")
    silence_s = (chance.choice(SILENCES_S) if seed < DAYS_FROM else DAY_S) * (0.8 + 0.4 * chance.random())
    duration_s = STARTED_S + silence_s + AFTERWARDS_S
    scenario = Scenario(seed, chance.randint(1, 2), chance.randint(1, 2), 2, [], [], duration_s)
    for number in range(chance.randint(1, 3)):
        _container(chance, scenario, number, silence_s)
    at_s = STARTED_S
    while (at_s := at_s + APART_S * chance.random() * (1 + silence_s / 300)) < STARTED_S + silence_s and len(scenario.faults) < FAULTS_MAX:
        kind = chance.choice(FAULTS)
        lasts_s = silence_s * chance.random() if kind == "freeze_client" and chance.random() < 0.3 else chance.choice(LASTS_S)
        scenario.faults.append(
            Fault(len(scenario.faults), at_s, kind, chance.randrange(12), chance.randrange(12), lasts_s, chance.random())
        )
        at_s += APART_S
    scenario.steps.sort(key=lambda step: (step.at_s, step.number))
    return scenario


def _container(chance: random.Random, scenario: Scenario, number: int, silence_s: float) -> None:
    """One that says something at its beginning, perhaps, and after the silence; and its readers."""
    name, guest, client = f"c{number}", chance.randrange(scenario.guests), chance.randrange(scenario.clients)
    silence_ms = int(1_000 * silence_s * (0.3 + 0.7 * chance.random()))
    script = Script(f"t{number}", silence_ms + chance.choice((0, 500, 5_000)), code=chance.choice((0, 3)))
    script.prints = [(5, 1, 20)] * chance.randint(0, 1) + [(silence_ms, chance.choice((1, 1, 2)), 100)] * chance.randint(0, 1)
    for _ in range(chance.randint(0, 2)):
        script.prints.append((chance.randint(0, silence_ms), 1, chance.choice((1, 500))))

    def add(at_s: float, op: str, **details: object) -> None:
        made = Step(len(scenario.steps), at_s, client, guest, op, name, token=script.token, script=script, details=details)
        scenario.steps.append(made if op == "run" else Step(**{**made.__dict__, "script": None}))

    add(0.5 + chance.random(), "run", auto_delete=chance.random() < 0.2)
    for _ in range(chance.randint(1, 4)):
        late_s = silence_ms / 1_000 * chance.random() if chance.random() < 0.3 else 0.0
        add(3.0 + chance.random() + late_s, "follow", how=chance.choice(HOW), by_name=chance.random() < 0.4)
