"""Events: each once and in order, or word of what is missing; the same for all, and for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corral.core.items import Event, EventGap, Item, Resync
from corral_schemas.events import BROKER_KINDS
from corral_testkit.sim.history import StreamSeen
from corral_testkit.sim.validators.evidence import Evidence, Findings


def events_are_contiguous(evidence: Evidence) -> Findings:
    """G9, G10: each once and in order, or an explicit word of what is missing."""
    for seen in evidence.history.streams:
        at: dict[str, tuple[str, int]] = dict(seen.opened_after)
        for item in seen.items:
            if isinstance(item, Resync):
                at[item.guest] = (item.place.epoch, item.place.seq)
            elif isinstance(item, EventGap):
                if item.guest:
                    yield f"G9 {seen.name}: gap {item.guest} {item.start}-{item.end} {item.reason}, though nothing was pruned"
                    at[item.guest] = (item.epoch, item.end)
            elif isinstance(item, Event) and item.kind not in BROKER_KINDS:
                header = item.header
                epoch, seq = at.get(header.guest, (header.epoch, -1))
                before = header.prev if seen.kinds is not None else header.seq - 1
                if epoch != header.epoch:
                    yield f"G24 {seen.name}: {header.guest} goes from epoch {epoch} to {header.epoch} without a resync"
                elif header.seq <= seq:
                    yield f"G9 {seen.name}: {header.guest} {header.kind} {header.seq} after {seq}"
                elif seq >= 0 and before > seq and not (seen.kinds is not None and header.guest not in at):
                    yield f"G9 {seen.name}: {header.guest} goes from {seq} to {header.seq} (before it: {before}) without a gap"
                at[header.guest] = (header.epoch, header.seq)


def nothing_is_missed_from_the_start(evidence: Evidence) -> Findings:
    """G12: what a stream gives begins where the journal stood when it was live, at the latest."""
    for seen in evidence.history.streams:
        for guest in seen.were_up:
            epoch, seq = seen.stood_at[guest]
            first = next((item for item in seen.items if not isinstance(item, Resync) and item.guest == guest and _is_journal(item)), None)
            if not isinstance(first, Event) or first.header.epoch != epoch:
                continue
            before = first.header.prev if seen.kinds is not None else first.header.seq - 1
            if before > seq:
                yield f"G12 {seen.name}: begins with {first.header.seq} of {guest}, but was live at {seq}"


def _is_journal(item: Item) -> bool:
    return not isinstance(item, Event) or item.kind not in BROKER_KINDS


def events_are_the_same_for_all(evidence: Evidence) -> Findings:
    """G10, G23, G24: one (epoch, seq) is one event for ever; what was announced is in the journal."""
    known: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    for guest, truth in evidence.truths.items():
        for header, data in truth.events:
            known[guest, header.epoch, header.seq] = (header.kind, header.instance, header.process_instance, str(data))
    current = {guest: truth.place for guest, truth in evidence.truths.items()}
    for seen in evidence.history.streams:
        for item in seen.items:
            if not isinstance(item, Event) or item.kind in BROKER_KINDS:
                continue
            header = item.header
            key = (header.guest, header.epoch, header.seq)
            told = (header.kind, header.instance, header.process_instance, str(item.data))
            place = current.get(header.guest)
            if place is not None and header.epoch == place.epoch and header.seq <= place.seq and key not in known:
                yield f"G23 {seen.name}: {key} {header.kind} was announced, but the journal has it not"
            if known.setdefault(key, told) != told:
                yield f"G24 {key}: {seen.name} saw {told}, others {known[key]}"


def events_came_to_the_end(evidence: Evidence) -> Findings:
    """G9: a stream that was open at the end has everything up to the audit."""
    newest = {(seen.client, seen.kinds): seen for seen in evidence.history.streams}
    for seen in newest.values():
        for guest, truth in evidence.truths.items():
            if seen.ended or (seen.guests is not None and guest not in seen.guests):
                continue
            epoch, floor = seen.stood_at.get(guest, ("", 0))
            if epoch != truth.place.epoch:
                floor = 0
            wanted = [header.seq for header, _ in truth.events if (seen.kinds is None or header.kind in seen.kinds) and header.seq > floor]
            got = max((seq for seq in _places(seen, guest, truth.place.epoch)), default=0)
            if wanted and got < wanted[-1]:
                yield f"G9 {seen.name}: {guest} came to {got}, its journal to {wanted[-1]}"


def _places(seen: StreamSeen, guest: str, epoch: str) -> Iterator[int]:
    """Every place of that epoch that the stream came to."""
    opened = seen.opened_after.get(guest)
    if opened is not None and opened[0] == epoch:
        yield opened[1]
    for item in seen.items:
        if isinstance(item, Event) and item.kind not in BROKER_KINDS and item.guest == guest and item.header.epoch == epoch:
            yield item.header.seq
        elif isinstance(item, Resync) and item.guest == guest and item.place.epoch == epoch:
            yield item.place.seq


def mirrors_are_true(evidence: Evidence) -> Findings:
    """G11: list and follow gives the state there is."""
    for client, mirror in evidence.history.mirrors.items():
        for guest, truth in evidence.truths.items():
            real = {state.instance: state.status for state in truth.containers}
            told = mirror.get(guest, {})
            for instance in sorted(real.keys() | told.keys()):
                one, other = told.get(instance), real.get(instance)
                if one != other and not (one == "resumed" and other in ("created", "running")):
                    yield f"G11 {client}: {guest} {instance} is {other}, by list and follow {one}"
