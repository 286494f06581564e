"""Silence is no failure: whoever reads, waits or follows is served for as long as it takes, while guest and broker stand."""

from __future__ import annotations

from corral_testkit.sim.history import Followed
from corral_testkit.sim.scenario import is_silent
from corral_testkit.sim.validators.evidence import Evidence, Findings, name_of
from corral_testkit.sim.witness import Life

NEWS_S_MAX = 1.0
"""Between what a process does and word of it to a reader, where nothing is wrong."""
LATE_S_MAX = 40.0
"""The same with faults, after the last of which all is healed."""


def readers_of_live_processes_get_no_error(evidence: Evidence) -> Findings:
    """G25: no fault of such a run outlasts anybody's patience, so that none of them is a reason."""
    for followed in evidence.history.followed:
        if followed.failure is not None:
            what = f"{followed.how} of {followed.guest}/{followed.container} by {followed.client}"
            yield f"G25 {what} failed after {followed.failed_s - followed.began_s:.0f} s: {followed.failure}"
    if is_silent(evidence.seed):
        for seen in evidence.history.streams:
            if seen.failure is not None:
                yield f"G25 events to {seen.name} ended: {seen.failure}"


def readers_hear_of_the_end_and_of_each_byte_in_time(evidence: Evidence) -> Findings:
    """G25: silence is over for the reader when it is over for the process."""
    for followed in evidence.history.followed:
        for life in evidence.witness.by_token.get(followed.token, []):
            yield from _late(evidence, followed, life)


def _late(evidence: Evidence, followed: Followed, life: Life) -> Findings:
    where = f"{followed.how} of {name_of(life, life.instance)} by {followed.client}"
    ended_s = max(followed.began_s, life.ended_s, life.closed_s)
    if followed.failure is None and life.end is not None:
        told_s = followed.finished_s or evidence.audited_s
        if told_s - ended_s > _allowed_s(evidence, followed, life, ended_s):
            yield f"G25 {where} heard of its end {told_s - ended_s:.1f} s late" + ("" if followed.finished_s else ", or never")
    for stream, end, at_s in followed.came:
        printed_s = next((when_s for name, upto, when_s in life.printed_at if name == stream and upto >= end), at_s)
        since_s = max(printed_s, followed.began_s)
        if at_s - since_s > _allowed_s(evidence, followed, life, since_s):
            yield f"G25 {where} got {stream} up to {end} {at_s - since_s:.1f} s late"


def _allowed_s(evidence: Evidence, followed: Followed, life: Life, since_s: float) -> float:
    if followed.disturbed:
        return float("inf")
    return NEWS_S_MAX if evidence.quiet({life.guest, followed.client}, since_s - NEWS_S_MAX, since_s + NEWS_S_MAX) else LATE_S_MAX


def guests_answer_only_what_they_were_asked(evidence: Evidence) -> Findings:
    """G25: an answer that nobody waits for any more is work for nothing, and may be one that a reader waits for in vain."""
    for broker, count in evidence.unmatched.items():
        if count:
            yield f"G25 {broker} got {count} answers to what it had not asked"
