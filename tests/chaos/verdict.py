"""What must hold after chaos, judged by the witness and by what each client and each reader of events wrote down."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from chaos.diary import Fact, facts_in
from chaos.plan import turn_of
from chaos.witness import Job, Witness

MAY_FAIL = {
    "outcome_unknown",
    "runtime_failed",
    "container_not_running",
    "container_not_found",
    "process_not_found",
    "container_invalid_state",  # it was paused, and its shim died when it was to go on
}
"""Answers a process may get instead of an exit when its container's shim was killed."""
BREACHES = ("lost exit", "wrong code", "executed twice", "missing bytes", "silent gap", "told twice", "refused")


@dataclass
class Verdict:
    """Counts, and every breach: its kind (one of BREACHES) and words for it."""

    breaches: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)

    def breach(self, kind: str, text: str) -> None:
        assert kind in BREACHES, kind
        self.breaches.append((kind, text))


@dataclass
class Seen:
    """What clients saw of one process."""

    job: Job
    container: str
    made: Fact | None = None
    failed: str = ""
    exits: list[Fact] = field(default_factory=list)
    reads: list[Fact] = field(default_factory=list)
    """Chunks and gaps, in order."""
    refused: list[Fact] = field(default_factory=list)
    looked_back: list[Fact] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)

    @property
    def instance(self) -> str:
        return self.made["process_instance"] if self.made else ""


def judge(diaries: Path, witness: Witness, seed: int, guests: list[str], killed_shims: set[str]) -> Verdict:
    """Holds every process's story against what it was made to do."""
    verdict = Verdict()
    processes: list[Seen] = []
    for path in sorted(diaries.glob("client-*.jsonl")):
        processes += _seen_by(path, seed, guests, verdict)
    counts = witness.counts()
    for token, count in counts["start"].items():
        if count > 1:
            verdict.breach("executed twice", f"{token} was executed {count} times")
    for token, count in counts["nudge"].items():
        if count > 1:
            verdict.breach("executed twice", f"{token} got its one signal {count} times")
    announced = _gaps_announced(diaries)
    for seen in processes:
        token = seen.job.token
        killed = seen.container in killed_shims
        _judge_process(verdict, seen, counts["start"][token], counts["end"][token], counts["nudge"][token], killed)
        _judge_bytes(verdict, seen, killed, announced)
    for path in sorted(diaries.glob("events-*.jsonl")):
        _judge_events(verdict, path, processes)
    return verdict


def _seen_by(path: Path, seed: int, guests: list[str], verdict: Verdict) -> list[Seen]:
    """The processes of one client, from its diary and the plan."""
    facts = facts_in(path)
    client = re.sub("^client-", "", path.stem)
    processes: dict[str, Seen] = {}
    for fact in facts:
        kind, token = fact["kind"], fact["token"]
        if kind == "begun":
            turn = turn_of(seed, client, fact["turn"], guests)
            job = next(job for job in turn.jobs if job.token == token)
            processes[token] = Seen(job, turn.name)
        elif kind == "made":
            processes[token].made = fact
        elif kind == "failed":
            processes[token].failed = fact["code"]
        elif kind == "exit":
            processes[token].exits.append(fact["exit"])
        elif kind in ("read", "gap"):
            processes[token].reads.append(fact)
        elif kind == "refused":
            processes[token].refused.append(fact)
        elif kind == "looked back":
            processes[token].looked_back.append(fact)
        elif kind == "answered":
            processes[token].answered.add(fact["what"])
            verdict.operations[fact["what"] + (f": {fact['code']}" if fact["code"] else "")] += 1
        elif kind == "full":
            verdict.operations[f"{fact['what']}: storage_full, asked anew"] += 1
    return list(processes.values())


def _judge_process(verdict: Verdict, seen: Seen, starts: int, ends: int, nudges: int, shim_killed: bool) -> None:
    token = seen.job.token
    verdict.counts["processes"] += 1
    for fact in seen.refused:
        if not (shim_killed and fact["code"] in MAY_FAIL):
            verdict.breach(
                "refused", f"{token}: {fact['what']} was answered {fact['code']} ({fact['text']}) though its shim was not killed"
            )
    if seen.failed:
        verdict.counts[f"refused: {seen.failed}"] += 1
        if not (shim_killed and seen.failed in MAY_FAIL):
            verdict.breach("lost exit", f"{token}: {seen.failed} in place of an exit though its shim was not killed")
        return
    if not seen.exits:
        verdict.breach("lost exit", f"{token}: no exit")
        return
    end = seen.exits[0]
    for fact in seen.looked_back:
        if not fact["same"]:
            verdict.breach("missing bytes", f"{token}: looking back it is {fact['exit']} with {fact['bytes']} bytes, it was {end}")
    if end["type"] == "lost":
        verdict.counts["lost with their shim"] += 1
        if not shim_killed:
            verdict.breach("lost exit", f"{token}: lost ({end['reason']}) though its shim was not killed")
        return
    verdict.counts["exits"] += 1
    if (starts, ends, end["type"], end.get("code")) != (1, 1, "exited", seen.job.code):
        verdict.breach("wrong code", f"{token}: {end}; by the witness {starts} starts and {ends} ends, planned code {seen.job.code}")
    if "nudge" in seen.answered and nudges != 1:
        verdict.breach("wrong code", f"{token}: its signal was delivered {nudges} times by the witness")


def _gaps_announced(diaries: Path) -> set[str]:
    """Instances of the processes of which an event told that the disk took no more of their output."""
    facts = facts_in(diaries / "events-all.jsonl")
    return {fact["process"] for fact in facts if fact["kind"] == "event" and fact["reason"] == "disk_full"}


def _judge_bytes(verdict: Verdict, seen: Seen, shim_killed: bool, announced: set[str]) -> None:
    """Offsets follow on each other, every byte is the right one, and all came up to the end that the plan and the exit say.

    Only the output of a process that does not wait for its disk may have gaps, and only where an event told of it too.
    """
    token, at = seen.job.token, 0
    for fact in seen.reads:
        if fact["start"] != at:
            verdict.breach("silent gap", f"{token}: bytes {at} to {fact['start']} were passed over")
        if fact["kind"] == "gap":
            at = fact["end"]
            verdict.counts["bytes told as gaps"] += fact["end"] - fact["start"]
            if not shim_killed and (seen.job.blocks or seen.instance not in announced):
                verdict.breach("missing bytes", f"{token}: {fact}; no event told of a full disk, or it waits for its disk")
        else:
            at = fact["start"] + fact["bytes"]
            verdict.counts["bytes"] += fact["bytes"]
            if not fact["good"]:
                verdict.breach("missing bytes", f"{token}: wrong bytes at {fact['start']}")
    for end in seen.exits[:1]:
        told = end.get("streams", {}).get("stdout", {"state": "open", "total": 0})
        if told["total"] > at or (told["state"] == "closed" and told["total"] != at):
            verdict.breach("missing bytes", f"{token}: {at} bytes came, its exit says {told}")
        if at != len(seen.job.output()) and not (shim_killed and end["type"] == "lost"):
            verdict.breach("missing bytes", f"{token}: {at} bytes in place of {len(seen.job.output())}: {seen.reads}")


def _judge_events(verdict: Verdict, path: Path, processes: list[Seen]) -> None:
    """Every event once and in order, or word of which are missing; every exit that clients saw, and the same."""
    by_kind = "exits" in path.stem
    told: defaultdict[str, list[str]] = defaultdict(list)
    last: dict[tuple[str, str], int] = {}
    gaps = 0
    for fact in facts_in(path):
        if fact["kind"] in ("event gap", "resync"):
            gaps += 1
            verdict.counts[f"{fact['kind']} told"] += 1
            last.pop((fact["guest"], fact["epoch"]), None)
        elif fact["kind"] == "event":
            verdict.counts["events"] += 1
            key = (fact["guest"], fact["epoch"])
            before = fact["prev"] if by_kind else fact["seq"] - 1
            if key in last and last[key] != before:
                kind = "told twice" if fact["seq"] <= last[key] else "silent gap"
                verdict.breach(kind, f"{path.stem}: {fact['guest']} {fact['what']} {fact['seq']} came after {last[key]}")
            last[key] = fact["seq"]
            if fact["what"] == "exit":
                told[fact["process"]].append(fact["exit"])
    for seen in processes:
        words = told.get(seen.instance, []) if seen.instance else []
        if len(words) > 1:
            verdict.breach("told twice", f"{seen.job.token}: {path.stem} has {len(words)} exits: {words}")
        if seen.exits and not words and not gaps:
            verdict.breach("lost exit", f"{seen.job.token}: {path.stem} has no exit event")
        if seen.exits and words and not words[0].startswith(seen.exits[0]["type"]):
            verdict.breach("wrong code", f"{seen.job.token}: {path.stem} says {words[0]}, wait says {seen.exits[0]}")
