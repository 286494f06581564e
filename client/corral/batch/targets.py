"""Targets: a guest, or a guest and an item; fixed when their step begins, each with a key that survives the run's end."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from corral.batch.filling import fill, labels_wanted
from corral.batch.plan import NAMES_MADE_UP, RANGE_ITEMS_MAX, Item, Step
from corral_schemas.queries import GuestInfo

TARGETS_MAX = 1_000_000
REQUEST_PREFIX = "batch-"


class TooManyTargetsError(Exception):
    """A step with more than TARGETS_MAX targets."""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to be done, as it stands in targets/STEP.jsonl."""

    key: str
    number: int
    """From 1 on, in the order of the step."""
    guest: str = ""
    """Empty: chosen when it is sent (`on: any`)."""
    item: str | None = None
    labels: dict[str, str] = {}
    """Those of the guest that the arguments name."""

    @property
    def shown(self) -> str:
        return " ".join(part for part in (self.guest, self.item if self.item != "" else "''") if part) or f"#{self.number}"


def item_text(item: Item) -> str:
    """As it is filled in: a whole float without its point."""
    return f"{item:g}" if isinstance(item, float) else str(item)


def items_of_range(bounds: Sequence[int]) -> list[str]:
    """First to last, both included. Raises TooManyTargetsError."""
    first, last, by = (*bounds, 1 if bounds[1] >= bounds[0] else -1)[:3]
    numbers = range(first, last + (1 if by > 0 else -1), by)
    if len(numbers) > RANGE_ITEMS_MAX:
        raise TooManyTargetsError(f"a range of more than {RANGE_ITEMS_MAX} items")
    return [str(number) for number in numbers]


def items_of_lines(text: str) -> list[str]:
    """One item a line; only line feeds (and a carriage return before one) part them."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def targets_of(step: Step, items: Sequence[str] | None, guests: Sequence[GuestInfo]) -> list[Target]:
    """All targets, item by item and, with `each`, guest by guest within. Raises TooManyTargetsError."""
    places: list[tuple[str, str | None, Mapping[str, str]]]
    count = (len(items) if items is not None else 1) * (len(guests) if step.on == "each" else 1)
    if count > TARGETS_MAX:
        raise TooManyTargetsError(f"step {step.name}: {count} targets; the limit is {TARGETS_MAX}")
    if step.on == "any":
        places = [("", item, {}) for item in items or ()]
    else:
        places = [(info.guest, item, info.labels) for item in (items if items is not None else (None,)) for info in guests]
    wanted = labels_wanted(step.args)
    equals: Counter[tuple[str, str | None]] = Counter()
    found = []
    for number, (guest, item, labels) in enumerate(places, 1):
        ordinal = equals[guest, item]
        equals[guest, item] += 1
        kept = {name: labels[name] for name in sorted(wanted) if name in labels}
        found.append(Target(key=_key(step, guest, item, ordinal), number=number, guest=guest, item=item, labels=kept))
    return found


def request_id(run: str, key: str, attempt: int) -> str:
    """The same for the same run, target and attempt, whoever computes it and when."""
    return REQUEST_PREFIX + _digest([run, key, attempt])


def filled_args(step: Step, target: Target, guest: str, labels: Mapping[str, str], request: str) -> dict[str, Any]:
    """The arguments for one target, in which only what batches add is a default: a made-up name, and `auto_delete`
    with a run that is waited for.

    Raises FillError.
    """
    args: dict[str, Any] = fill(step.args, item=target.item, number=target.number, guest=guest, labels=labels)
    if (name := NAMES_MADE_UP.get(step.op)) and not args.get(name):
        args = {**args, name: request}
    return {"auto_delete": True, **args} if step.op == "run" and not step.detach else args


def _key(step: Step, guest: str, item: str | None, ordinal: int) -> str:
    return _digest([step.name, guest, item, step.op, step.args, ordinal])[:24]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
