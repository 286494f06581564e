"""Commands in time: an outcome by the deadline, nothing begun after it, nothing held up by what it has nothing to do with."""

from __future__ import annotations

from collections import defaultdict

from corral_schemas.limits import DEADLINE_GRACE_S
from corral_testkit.sim.history import Asked
from corral_testkit.sim.validators.evidence import Evidence, Findings, name_of


def nothing_runs_after_its_deadline(evidence: Evidence) -> Findings:
    """G14, G15: what was not begun in time is not begun at all. Time without a worker, or on its way, does not count."""
    by_token: dict[str, list[Asked]] = defaultdict(list)
    for asked in evidence.history.asked:
        if asked.step.script is not None:
            by_token[asked.step.token].append(asked)
    for life in evidence.witness.lives:
        deadline_s = max((asked.deadline_s for asked in by_token[life.token]), default=life.created_s)
        absences = evidence.guests[life.guest].absences
        away_s = sum(min(until_s, life.created_s) - from_s + RESTART_S for from_s, until_s in absences if from_s < life.created_s)
        if life.created_s > deadline_s + GHOST_S + away_s and all(
            evidence.quiet({life.guest, asked.client}, asked.sent_s, life.created_s, MESSAGES_LATE) for asked in by_token[life.token]
        ):
            yield f"G14 {name_of(life, life.instance)} was made {life.created_s - deadline_s:.3f} s after its deadline"


MESSAGES_LATE = frozenset({"cut", "half_cut", "slow_line", "freeze_broker"})
GHOST_S, RESTART_S = 0.5, 5.0
"""What a deadline may be off by: at once, and for each restart (since the journal's last request)."""


def commands_end_in_time(evidence: Evidence) -> Findings:
    """G15: by the deadline, and a moment."""
    for asked in evidence.history.asked:
        if asked.disturbed:
            continue
        limit_s = asked.deadline_s + DEADLINE_GRACE_S + 0.01
        if asked.outcome is not None and asked.done_s > limit_s:
            yield f"G15 {asked.step.request_id} {asked.step.op} of {asked.client} ended {asked.done_s - asked.deadline_s:.3f} s late"


def what_queues_behind_nothing_is_quick(evidence: Evidence) -> Findings:
    """G7, G15, G17: where nothing is wrong, questions and kills are answered at once, whatever hangs or is slow beside them."""
    for asked in evidence.history.asked:
        if asked.step.op in AT_ONCE and asked.outcome is not None and asked.done_s - asked.sent_s > AT_ONCE_S_MAX:
            hosts = {evidence.names[asked.step.guest], asked.client}
            if evidence.quiet(hosts, asked.sent_s, asked.done_s) and asked.sent_s > evidence.began_s + STARTED_S:
                yield f"G7 {asked.step.request_id} {asked.step.op} of {asked.client} took {asked.done_s - asked.sent_s:.3f} s"


AT_ONCE = frozenset({"kill", "state", "list", "ps", "stats", "info", "guests", "result", "cancel"})
AT_ONCE_S_MAX, STARTED_S = 0.5, 2.0
