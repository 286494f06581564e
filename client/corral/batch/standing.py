"""How a run stands, read from its directory: for `corral batch status`."""

from typing import Any

from corral.batch.history import History, replay
from corral.batch.joblog import read_joblog
from corral.batch.moves import Tally
from corral.batch.records import OUTCOMES, Ended
from corral.batch.rundir import RunDir


def step_rows(directory: RunDir) -> list[dict[str, Any]]:
    """One row per step of the plan, in its order. Raises PlanError, JoblogError, OSError."""
    history = _history(directory)
    rows: list[dict[str, Any]] = []
    for step in directory.plan().steps:
        past = history.steps.get(step.name)
        tally = Tally()
        for target in past.by_key.values() if past else ():
            if target.ended is not None:
                tally.add(target.ended.outcome)
        targets = past.targets if past else 0
        state = "not begun" if past is None or not past.began_ns else "ended" if past.ended else "under way"
        counts: dict[str, int] = {str(outcome): tally.by_outcome.get(outcome, 0) for outcome in OUTCOMES}
        row: dict[str, Any] = {"step": step.name, "op": step.op, "state": state, "targets": targets}
        rows.append(row | counts | {"open": targets - tally.total})
    return rows


def target_rows(directory: RunDir) -> list[dict[str, Any]]:
    """One row per target of every step that has begun; `open` where there is no end yet. Raises as step_rows."""
    history = _history(directory)
    rows = []
    for step in directory.plan().steps:
        past = history.steps.get(step.name)
        for target in directory.targets(step.name) or ():
            known = past.by_key.get(target.key) if past else None
            if known is not None and known.ended is not None:
                rows.append(row_of(known.ended))
            else:
                at = known.sent.guest if known and known.sent else target.guest
                still = Ended(
                    time_ns=0, step=step.name, key=target.key, number=target.number, outcome="unknown", guest=at, item=target.item
                )
                rows.append({**row_of(still), "outcome": "open", "attempts": known.attempts if known else 0, "ended_ns": 0})
    return rows


def row_of(ended: Ended) -> dict[str, Any]:
    """A terminal record with every field, for programs."""
    return {
        "step": ended.step,
        "number": ended.number,
        "guest": ended.guest,
        "item": ended.item,
        "outcome": ended.outcome,
        "status": ended.status,
        "signal": ended.signal,
        "reason": ended.reason,
        "attempts": ended.attempts,
        "key": ended.key,
        "started_ns": ended.started_ns,
        "ended_ns": ended.time_ns,
        "received_bytes": ended.received_bytes,
    }


def _history(directory: RunDir) -> History:
    return replay(read_joblog(directory.joblog)) if directory.joblog.exists() else History()
