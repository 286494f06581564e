"""How a run's scenario comes from its seed."""

from __future__ import annotations

import random
from typing import Any

from corral_testkit.sim.runtime import Script
from corral_testkit.sim.scenario import DURATION_S, FAULTS, RUNTIME_TEXTS, STEPS_MIN, Fault, Scenario, Step, is_silent
from corral_testkit.sim.scenario_silent import make_silent_scenario
from corral_testkit.sim.scenario_transfers import add_transfers


def make_scenario(seed: int) -> Scenario:
    """The same for the same seed."""
    if is_silent(seed):
        return make_silent_scenario(seed)
    chance = random.Random(f"scenario {seed}")
    scenario = Scenario(seed, chance.randint(1, 3), chance.randint(1, 2), chance.randint(2, 4), [], [])
    maker = _Maker(chance, scenario)
    while len(scenario.steps) < STEPS_MIN:
        maker.container()
    scenario.faults = sorted(_faults(chance, scenario), key=lambda fault: fault.at_s)
    add_transfers(scenario)
    scenario.steps.sort(key=lambda step: (step.at_s, step.number))
    return scenario


def _faults(chance: random.Random, scenario: Scenario) -> list[Fault]:
    kinds = chance.choices(list(FAULTS), list(FAULTS.values()), k=chance.randint(5, 12))
    faults = []
    for number, kind in enumerate(kinds):
        lasts_s = chance.choice((0.05, 0.5, 2.0, 5.0, 9.0, 20.0)) * (0.5 + chance.random())
        at_s = 1.0 + chance.random() * (DURATION_S - 2)
        faults.append(Fault(number, at_s, kind, chance.randrange(12), chance.randrange(12), lasts_s, chance.random()))
    return faults


class _Maker:
    """Lives of containers, as steps."""

    def __init__(self, chance: random.Random, scenario: Scenario) -> None:
        self._chance, self._scenario = chance, scenario
        self._containers = 0

    def _add(self, at_s: float, guest: int, op: str, container: str, **more: Any) -> Step:
        chance = self._chance
        client = more.pop("client", None)
        step = Step(
            number=len(self._scenario.steps),
            at_s=at_s,
            client=chance.randrange(self._scenario.clients) if client is None else client,
            guest=guest,
            op=op,
            container=container,
            timeout_s=more.pop("timeout_s", chance.choice((3.0, 10.0, 30.0, 30.0))),
            patient=more.pop("patient", chance.random() < 0.7),
            **more,
        )
        self._scenario.steps.append(step)
        return step

    def container(self) -> None:
        chance = self._chance
        self._containers += 1
        name, guest = f"c{self._containers}", chance.randrange(self._scenario.guests)
        at_s = 0.5 + chance.random() * (DURATION_S * 0.7)
        owner = chance.randrange(self._scenario.clients)
        script = self._script(f"t{self._containers}", lasting=chance.random() < 0.75)
        if chance.random() < 0.6:
            details = {"auto_delete": chance.random() < 0.25}
            made = self._add(at_s, guest, "run", name, token=script.token, script=script, client=owner, details=details)
        else:
            made = self._add(at_s, guest, "create", name, token=script.token, script=script, client=owner)
            at_s += 0.05 + chance.random()
            if chance.random() < 0.95:
                self._add(at_s, guest, "start", name, client=owner)
        self._aftermath(made, at_s)
        life_s = min(script.run_ms / 1000, 25.0)
        self._watched(at_s, life_s, guest, name, "init", script)
        for number in range(chance.randint(0, 7) if life_s > 2 else chance.randint(0, 1)):
            self._exec(at_s + 0.1 + chance.random() * life_s, guest, name, number)
        self._changes(at_s, life_s, guest, name)
        if chance.random() < 0.75:
            self._end(at_s + 0.2 + life_s * chance.random() * 1.3, guest, name)

    def _exec(self, at_s: float, guest: int, name: str, number: int) -> None:
        script = self._script(f"t{self._containers}e{number}", lasting=self._chance.random() < 0.3)
        process = f"e{number}"
        made = self._add(at_s, guest, "exec", name, process=process, token=script.token, script=script)
        self._aftermath(made, at_s)
        self._watched(at_s + 0.1, script.run_ms / 1000, guest, name, process, script)

    def _aftermath(self, made: Step, at_s: float) -> None:
        """The same command again, or word that it is given up."""
        chance = self._chance
        if chance.random() < 0.15:
            again = {"process": made.process, "token": made.token, "script": made.script, "details": made.details}
            self._add(at_s + chance.random() ** 2 * 25, made.guest, made.op, made.container, repeats=made.number, **again)
        if chance.random() < 0.08:
            self._add(at_s + chance.random() * 0.2, made.guest, "cancel", made.container, details={"of": made.number})
        if chance.random() < 0.15:
            self._add(at_s + chance.random() * 10, made.guest, "result", made.container, details={"of": made.number})

    def _watched(self, at_s: float, life_s: float, guest: int, name: str, process: str, script: Script) -> None:
        chance = self._chance
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            when_s = at_s + chance.random() * (life_s + 3)
            self._add(when_s, guest, "wait", name, process=process, token=script.token)
        if script.prints and chance.random() < 0.6:
            self._add(at_s + chance.random() * (life_s + 2), guest, "output", name, process=process, token=script.token)
        if script.until_eof:
            self._add(at_s + 0.2, guest, "stdin", name, process=process, token=script.token, details={"bytes": chance.randint(0, 60_000)})
        for number in range(chance.choice((0, 0, 1, 2))):
            when_s = at_s + chance.random() * life_s
            self._add(when_s, guest, "kill", name, process=process, token=script.token, details={"signal": 34 + number})

    def _changes(self, at_s: float, life_s: float, guest: int, name: str) -> None:
        chance = self._chance
        if life_s > 2 and chance.random() < 0.35:
            when_s = at_s + chance.random() * life_s
            self._add(when_s, guest, "pause", name)
            self._add(when_s + chance.random() * 4, guest, "resume", name)
        if chance.random() < 0.15:
            self._add(at_s + chance.random() * life_s, guest, "update", name)
        for _ in range(chance.randint(0, 3)):
            self._add(at_s + chance.random() * life_s, guest, chance.choice(("state", "list", "ps", "stats", "info", "guests")), name)
        if chance.random() < 0.08:
            script = self._script(f"t{self._containers}x", lasting=False)
            self._add(at_s + chance.random() * life_s, guest, "run", name, token=script.token, script=script)

    def _end(self, at_s: float, guest: int, name: str) -> None:
        chance = self._chance
        how = chance.choice(("stop", "kill", "delete", "natural"))
        if how == "stop":
            self._add(at_s, guest, "stop", name, details={"grace_ms": chance.choice((0, 500, 3000))})
        elif how == "kill":
            self._add(at_s, guest, "kill", name, details={"signal": chance.choice((9, 9, 15)), "all": chance.random() < 0.3})
        if how == "delete" or chance.random() < 0.7:
            self._add(at_s + chance.random() * 2, guest, "delete", name, details={"force": how == "delete" or chance.random() < 0.5})
            if chance.random() < 0.5:
                self._add(at_s + 2 + chance.random() * 8, guest, "wait", name)

    def _script(self, token: str, *, lasting: bool) -> Script:
        chance = self._chance
        run_ms = chance.randint(2_000, 22_000) if lasting else chance.choice((0, 1, 20, 300, 1_500))
        script = Script(token, run_ms, code=chance.choice((0, 0, 1, 7, 137, 255)))
        if chance.random() < 0.1:
            script.code, script.signal = None, chance.choice((6, 9, 11, 15))
            script.oom = script.signal == 9
        script.ignores_term = chance.random() < 0.2
        for _ in range(chance.choice((0, 1, 1, 3, 8))):
            count = chance.choice((1, 100, 4_000, 30_000, 70_000))
            script.prints.append((chance.randint(0, max(1, run_ms)), chance.choice((1, 1, 2)), count))
        if chance.random() < 0.08:
            script.child_ms, script.child_bytes = chance.choice((30, 800, 6_000)), chance.choice((0, 10, 5_000))
        script.until_eof = lasting and chance.random() < 0.1
        trouble = chance.random()
        if trouble < 0.03:
            script.fails = chance.choice(RUNTIME_TEXTS)
        elif trouble < 0.07:
            script.slow_ms = chance.choice((500, 3_000, 9_000))
        elif trouble < 0.08:
            script.hangs = True
        return script
