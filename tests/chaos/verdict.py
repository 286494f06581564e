"""What must hold after chaos, judged by the witness and by what each client saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from chaos.witness import Witness
from chaos.workload import Seen, Story

MAY_FAIL = {"outcome_unknown", "runtime_failed", "container_not_running", "container_not_found", "process_not_found"}
"""Answers a process may get instead of an exit when its container's shim was killed."""


@dataclass
class Verdict:
    """Counts, and every breach in words."""

    breaches: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def judge(story: Story, witness: Witness, killed_shims: set[str]) -> Verdict:
    """Holds every process's story against what it was made to do."""
    verdict = Verdict()
    starts, ends = witness.counts()
    for token, count in starts.items():
        if count > 1:
            verdict.breaches.append(f"{token} was executed {count} times")
    for seen in story.processes:
        _judge_process(verdict, seen, starts[seen.job.token], ends[seen.job.token], seen.instance in killed_shims)
        _judge_events(verdict, seen, story)
    return verdict


def _judge_process(verdict: Verdict, seen: Seen, starts: int, ends: int, shim_killed: bool) -> None:
    verdict.counts["processes"] += 1
    token = seen.job.token
    if seen.failed:
        verdict.counts[f"failed: {seen.failed}"] += 1
        if not (shim_killed and seen.failed in MAY_FAIL) and seen.failed != "outcome_unknown":
            verdict.breaches.append(f"{token}: {seen.failed} though its shim was not killed")
        return
    end = seen.exit
    if end is None:
        verdict.breaches.append(f"{token}: no exit")
        return
    verdict.counts[end.type] += 1
    if end.type == "lost" or shim_killed:
        if not shim_killed:
            verdict.breaches.append(f"{token}: lost ({end.reason}) though its shim was not killed")
        if end.type == "exited" and (end.code != seen.job.code or ends != 1):
            verdict.breaches.append(f"{token}: exit code {end.code} in place of {seen.job.code}, ended {ends} times by the witness")
        if not seen.job.output().startswith(seen.output) and not seen.gap:
            verdict.breaches.append(f"{token}: wrong bytes")
        return
    if (starts, ends, end.code) != (1, 1, seen.job.code):
        verdict.breaches.append(f"{token}: {starts} starts, {ends} ends, code {end.code}; planned {seen.job.code}")
    if seen.output != seen.job.output():
        verdict.breaches.append(f"{token}: {len(seen.output)} bytes in place of {len(seen.job.output())}, gap told: {seen.gap}")
    verdict.counts["bytes"] += len(seen.output)


def _judge_events(verdict: Verdict, seen: Seen, story: Story) -> None:
    told = story.exits_by_event.get(seen.process_instance, []) if seen.process_instance else []
    if len(told) > 1:
        verdict.breaches.append(f"{seen.job.token}: {len(told)} exit events: {told}")
    if seen.exit is not None and not told and not story.gaps and not story.resyncs:
        verdict.breaches.append(f"{seen.job.token}: no exit event")
    if seen.exit is not None and told and not told[0].startswith(seen.exit.type):
        verdict.breaches.append(f"{seen.job.token}: the event says {told[0]}, wait says {seen.exit.type}")
