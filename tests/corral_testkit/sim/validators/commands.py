"""Commands: at most once, one outcome however often it is asked for, no ghosts."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from corral_schemas.base import Message
from corral_schemas.commands import CancelReply, CreateReply, ExecReply, KillReply
from corral_schemas.errors import CorralError
from corral_schemas.ops import OPS
from corral_testkit.sim.history import Asked
from corral_testkit.sim.scenario import RUNTIME_TEXTS
from corral_testkit.sim.validators.evidence import Evidence, Findings, name_of
from corral_testkit.sim.witness import Life

RUNTIME_CODES = ("command_not_found", "runtime_failed", "storage_full")
"""Of the scenario's RUNTIME_TEXTS."""
NOT_TOLD = frozenset(
    {"guest_unreachable", "guest_busy", "deadline_exceeded", "outcome_unknown", "wait_timeout", "storage_full", "request_conflict"}
)
"""Codes that a repeat may bring though the command itself had another outcome."""


def nothing_runs_twice(evidence: Evidence) -> Findings:
    """G13, G24: one request, at most one process; one kill, at most one signal.

    A container may be created while its intent goes to disk: one that was removed before it was started has not run.
    """
    for token, made in evidence.witness.by_token.items():
        lives = [life for life in made if _has_run(life)]
        if len(lives) > 1 and not _asked_anew(evidence, token, lives[0].guest):
            yield f"G13 {token} was made {len(lives)} times: {[(life.instance, life.created_s, life.why) for life in lives]}"
    for life in evidence.witness.lives:
        for number, count in Counter(number for number, _ in life.signals if number >= 34).items():
            if count > 1:
                yield f"G13 signal {number} was sent {count} times to {name_of(life, life.instance)}"


def _has_run(life: Life) -> bool:
    """Or may yet: a container that was removed before it was started has not."""
    return life.started_s is not None or life.end is None


def _asked_anew(evidence: Evidence, token: str, guest: str) -> bool:
    """Somebody who knows nothing of the earlier epoch sends the request for the first time: it cannot be known for a repeat."""
    asked_s = [asked.sent_s for asked in evidence.history.asked if asked.step.token == token and asked.step.script is not None]
    return any(min(asked_s) < lost_s < max(asked_s) for lost_s in evidence.rewound.get(guest, []) if asked_s)


def replies_agree_and_are_true(evidence: Evidence) -> Findings:
    """G13: one outcome however often it is asked for; no success that did not happen."""
    by_request: dict[str, list[Asked]] = defaultdict(list)
    for asked in evidence.history.asked:
        by_request[asked.step.request_id].append(asked)
    for request_id, all_asked in by_request.items():
        made = {
            (one.outcome.instance, one.outcome.process_instance) for one in all_asked if isinstance(one.outcome, CreateReply | ExecReply)
        }
        if _asked_anew(evidence, all_asked[0].step.token, evidence.names[all_asked[0].step.guest]):
            continue
        if len(made) > 1:
            yield f"G13 {request_id} was answered with {made}"
        if made:
            for one in all_asked:
                if isinstance(one.outcome, CorralError) and one.outcome.code not in NOT_TOLD and one.step.op in ("create", "run", "exec"):
                    yield f"G13 {request_id} succeeded, and was answered {one.outcome}"
        for _, instance in made:
            life = evidence.witness.by_instance.get(instance)
            if life is None or (all_asked[0].step.op != "create" and life.started_s is None):
                yield f"G13 {request_id} {all_asked[0].step.op} succeeded, but {instance} never ran"


def outcomes_can_be_asked_again(evidence: Evidence) -> Findings:
    """G13: what succeeded is told again as it was told first, by request id, for as long as the journal is the same."""
    for asked in evidence.history.asked:
        guest = evidence.names[asked.step.guest]
        if not OPS[asked.step.op].mutating or not isinstance(asked.outcome, Message) or evidence.rewound.get(guest):
            continue
        told = evidence.truths[guest].results[asked.step.request_id]
        if told.state != "done" or told.ok is None or msgspec.convert(told.ok, type(asked.outcome)) != asked.outcome:
            yield f"G13 {asked.step.request_id} {asked.step.op} was answered {asked.outcome}, but asked again it is {told}"


def kills_that_were_delivered_were(evidence: Evidence) -> Findings:
    """G17: `delivered` means that the process, if it still was, got it."""
    for asked in evidence.history.asked:
        step = asked.step
        if isinstance(asked.outcome, KillReply) and step.token and not step.details.get("all"):
            by_token = evidence.witness.by_token
            lives = by_token.get(step.token, []) + by_token.get(f"{step.token}x", [])  # a second run under the same name
            if not any(number == step.details["signal"] for life in lives for number, _ in life.signals) and all(
                life.end is None for life in lives
            ):
                yield f"G13 kill {step.request_id} with {step.details['signal']} was delivered, but {step.token} never got it"


def what_was_not_sent_never_ran(evidence: Evidence) -> Findings:
    """G14: no ghosts of commands that were refused, given up and cancelled.

    A worker may be killed while `runc create` runs beside the write of its intent: the next one removes that container, and may say
    `cancelled`.
    """
    by_request: dict[str, list[Asked]] = defaultdict(list)
    for asked in evidence.history.asked:
        by_request[asked.step.request_id].append(asked)
    for request_id, all_asked in by_request.items():
        step = all_asked[0].step
        if step.op not in ("create", "run", "exec"):
            continue
        lives = evidence.witness.by_token.get(step.token, [])
        if lives and all(isinstance(one.outcome, CorralError) and one.outcome.details.get("sent") is False for one in all_asked):
            yield f"G14 {request_id} {step.op} was never sent, they say, but {name_of(lives[0], lives[0].instance)} was made"
    steps = {asked.step.number: asked.step for asked in evidence.history.asked}
    for asked in evidence.history.asked:
        if asked.step.op == "cancel" and isinstance(asked.outcome, CancelReply) and asked.outcome.outcome == "cancelled":
            target = steps.get(asked.step.details["of"])
            made = evidence.witness.by_token.get(target.token, []) if target is not None and target.script is not None else []
            lives = [life for life in made if _has_run(life)]
            lost_s = evidence.rewound.get(evidence.names[asked.step.guest], [])
            times_s = sorted((asked.sent_s, lives[0].created_s)) if lives else []
            if lives and not any(times_s[0] < at_s < times_s[1] for at_s in lost_s):  # else one of them went with the journal
                yield f"G14 {target.request_id if target else ''} was cancelled, but {name_of(lives[0], lives[0].instance)} was made"


def runtime_errors_have_their_codes(evidence: Evidence) -> Findings:
    """G18: by what the runtime says."""
    for asked in evidence.history.asked:
        script = asked.step.script
        if script is not None and script.fails and isinstance(asked.outcome, CorralError):
            told, right = asked.outcome.code, RUNTIME_CODES[RUNTIME_TEXTS.index(script.fails)]
            if asked.outcome.message == script.fails and told != right:
                yield f"G18 {asked.step.request_id}: {script.fails!r} became {told}, not {right}"
