"""Exits: none is lost, none is invented, all are told alike."""

from __future__ import annotations

from collections import Counter

from corral_schemas.exits import Exit
from corral_testkit.sim.validators.evidence import SETTLED_S, Evidence, Findings, name_of
from corral_testkit.sim.witness import Life

VIOLENT = frozenset({"shim died", "power", "buried"})


def exits_are_the_witness_s(evidence: Evidence) -> Findings:
    """G1, G2, G16: what is told of an end is what happened; `lost` only where it was not to be known."""
    for instance, seen in evidence.history.exits.items():
        life = evidence.witness.by_instance.get(instance)
        for one in seen:
            wrong = _wrong_exit(life, one.exit)
            if wrong:
                yield f"G2 exit of {name_of(life, instance)} by {one.where}: {wrong}"


def _wrong_exit(life: Life | None, told: Exit) -> str:
    if told.type == "start_failed":
        return "start_failed, but it ran" if life is not None and life.started_s is not None else ""
    if life is None:
        return f"{told.type} of a process that never was"
    if life.end is None:
        return f"{told.type}, but it runs"
    if told.type == "lost":
        known = life.reaped and not life.end_unsafe and life.why not in VIOLENT
        return f"lost, though its shim wrote down {life.end}" if known else ""
    same = life.end["type"] == told.type and life.end.get("code") == told.code and life.end.get("signal") == told.signal
    if same and told.oom_seen != life.oom:
        return "oom_seen is wrong"
    return "" if same else f"{told.type} {told.code} {told.signal}, but it was {life.end}"


def exits_are_the_same_for_all(evidence: Evidence) -> Findings:
    """G3: a repeatable read."""
    for instance, seen in evidence.history.exits.items():
        told = {(one.exit.type, one.exit.code, one.exit.signal, one.exit.exited_ns) for one in seen}
        if len(told) > 1 and not _guest_of(evidence, instance) & evidence.rewound.keys():
            yield f"G3 exit of {name_of(evidence.witness.by_instance.get(instance), instance)} differs: {sorted(map(str, told))}"


def each_start_has_one_exit(evidence: Evidence) -> Findings:
    """G1: in the journal's events, once each, and as `wait` says."""
    for guest, truth in evidence.truths.items():
        exits = Counter(header.process_instance for header, _ in truth.events if header.kind == "exit")
        started = {header.process_instance for header, _ in truth.events if header.kind in ("created", "exec_started")}
        for instance, count in exits.items():
            if count > 1:
                yield f"G1 {guest}: {count} exits of {instance}"
        for instance in sorted(started):
            life = evidence.witness.by_instance.get(instance)
            over = life is not None and life.end is not None and life.ended_s < evidence.audited_s - SETTLED_S
            if over and not exits[instance]:
                yield f"G1 {guest}: no exit of {name_of(life, instance)}, which has ended: {life}"
            if exits[instance] and isinstance(truth.exits.get(instance), str):
                yield f"G3 {guest}: {instance} has exited, but wait says {truth.exits[instance]}"


def nothing_lives_unknown(evidence: Evidence) -> Findings:
    """G13, G16: what was made is in the journal, though the worker was stopped or killed while it was being made."""
    for guest, truth in evidence.truths.items():
        told = {header.process_instance for header, _ in truth.events}
        for life in evidence.witness.lives:
            ran = life.started_s is not None or life.end is None
            safe = ran and life.guest == guest and not life.orphaned and life.why != "timeout" and guest not in evidence.rewound
            if safe and life.instance not in told and life.created_s < evidence.audited_s - SETTLED_S:
                yield f"G16 {name_of(life, life.instance)} was made, and nothing is known of it"


def _guest_of(evidence: Evidence, instance: str) -> set[str]:
    life = evidence.witness.by_instance.get(instance)
    return {life.guest} if life is not None else set()
