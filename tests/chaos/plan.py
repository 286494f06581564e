"""What each client does, turn by turn: all of it follows from the seed, so a client that was killed knows what it was about."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.witness import Job

EXECS_MAX = 4


@dataclass(frozen=True)
class Turn:
    """One container's life: run, perhaps pause and resume, execs side by side, the end of init, delete."""

    guest: str
    name: str
    init: Job
    execs: list[Job]
    pauses: bool
    looks_back: bool
    """After the deletion it asks for every exit again and reads every byte again."""

    @property
    def jobs(self) -> list[Job]:
        return [self.init, *self.execs]


def turn_of(seed: int, client: str, number: int, guests: Sequence[str]) -> Turn:
    """The same for the same arguments. `client`: unique among all that use the same guests."""
    dice = random.Random(f"{seed}/{client}/{number}")
    token = f"{seed}.{client}.{number}"
    return Turn(
        guest=dice.choice(list(guests)),
        name=f"c{token}",
        init=_job(dice, f"c{token}", waits=True),
        execs=[_job(dice, f"e{token}.{index}") for index in range(dice.randint(0, EXECS_MAX))],
        pauses=dice.random() < 0.2,
        looks_back=dice.random() < 0.2,
    )


def _job(dice: random.Random, token: str, *, waits: bool = False) -> Job:
    lines, sleep_s = dice.choice([0, 1, 20, 200, 2000]), dice.choice([0, 0, 0.1, 0.5])
    code, nudged, blocks = dice.randint(0, 100), dice.random() < 0.15, dice.random() < 0.5
    return Job(token=token, lines=lines, sleep_s=sleep_s, code=code, waits=waits, nudged=nudged, blocks=blocks)
