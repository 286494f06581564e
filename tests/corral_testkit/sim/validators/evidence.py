"""All there is to judge a run by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corral_testkit.sim.audit import GuestTruth
from corral_testkit.sim.contents import Contents
from corral_testkit.sim.guest import SimGuest
from corral_testkit.sim.history import History
from corral_testkit.sim.witness import Life, Witness

SETTLED_S = 5.0
"""Ends of processes so long before the audit must be known by then."""

Findings = Iterator[str]


@dataclass
class Evidence:
    """All there is to judge by."""

    guests: dict[str, SimGuest]
    witness: Witness
    history: History
    truths: dict[str, GuestTruth]
    rewound: dict[str, list[float]]
    """Guest → when its journal was set back or lost."""
    quiet: Callable[..., bool]
    """See Faults.quiet."""
    began_s: float
    audited_s: float
    seed: int
    unmatched: dict[str, int]
    """Broker → answers it got to what it had not asked."""
    names: list[str]
    """Guests by their number in the scenario."""
    contents: Contents
    rootfs: Path
    """Of every container."""


def name_of(life: Life | None, instance: str) -> str:
    return f"{life.guest}/{life.token}/{instance[-4:]}" if life is not None else instance
