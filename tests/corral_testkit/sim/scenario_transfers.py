"""Bundles and files in a run: drawn from a randomness of their own, so that the rest of a seed's scenario does not hang on them."""

from __future__ import annotations

import random
from typing import Any

from corral_testkit.sim.contents import BUNDLES
from corral_testkit.sim.scenario import DURATION_S, Scenario, Step

WITH_BUNDLES, WITH_FILES = 0.4, 0.4
"""Shares of the seeds."""
UNSYNCED_S = 1.2
"""A power cut finds pushes that ended so shortly before it unsynced."""


def add_transfers(scenario: Scenario) -> None:
    """To a scenario whose containers and faults are there already."""
    chance = random.Random(f"transfers {scenario.seed}")
    adder = _Adder(chance, scenario)
    if chance.random() < WITH_BUNDLES:
        adder.bundles()
    if chance.random() < WITH_FILES:
        adder.files()


class _Adder:
    def __init__(self, chance: random.Random, scenario: Scenario) -> None:
        self._chance, self._scenario = chance, scenario

    def _add(self, at_s: float, guest: int, op: str, container: str = "", **details: Any) -> None:
        client = self._chance.randrange(self._scenario.clients)
        self._scenario.steps.append(Step(len(self._scenario.steps), at_s, client, guest, op, container, details=details))

    def bundles(self) -> None:
        chance, guests = self._chance, self._scenario.guests
        for fault in self._scenario.faults:
            if fault.kind == "power_cut" and chance.random() < 0.7:
                bundle = self._push(fault.at_s - chance.random() * UNSYNCED_S, fault.target % guests)
                if chance.random() < 0.6:  # again, to mend what the power cut tore
                    self._push(fault.at_s + fault.lasts_s + chance.random() * 3, fault.target % guests, bundle)
        for _ in range(chance.randint(1, 3)):
            at_s, guest = 0.5 + chance.random() * (DURATION_S - 5), chance.randrange(guests)
            self._push(at_s, guest)
            for op in ("bundles", "remove_bundle", "collect_bundles"):
                if chance.random() < 0.4:
                    bundle, named = chance.randrange(BUNDLES), chance.random() < 0.3
                    self._add(at_s + chance.random() ** 2 * 8, guest, op, bundle=bundle, named=named)

    def _push(self, at_s: float, guest: int, bundle: int | None = None) -> int:
        bundle = self._chance.randrange(BUNDLES) if bundle is None else bundle
        self._add(min(max(0.5, at_s), DURATION_S), guest, "push", bundle=bundle)
        return bundle

    def files(self) -> None:
        """Of one or two containers that last."""
        chance = self._chance
        lasting = [step for step in self._scenario.steps if step.op == "run" and step.script is not None and step.script.run_ms > 5_000]
        for made in chance.sample(lasting, min(len(lasting), chance.randint(1, 2))):
            for op in ("write_file", "read_file", chance.choice(("write_file", "read_file", "resize"))):
                self._add(made.at_s + 0.1 + chance.random() * 5, made.guest, op, made.container)
