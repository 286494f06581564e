"""What must hold of every run: what clients saw, against the witness and against what the guests say at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from corral.core.items import Event, EventGap, Item, Resync
from corral_schemas.base import Message
from corral_schemas.commands import CancelReply, CreateReply, ExecReply, KillReply
from corral_schemas.errors import CorralError
from corral_schemas.events import BROKER_KINDS
from corral_schemas.exits import Exit
from corral_schemas.limits import DEADLINE_GRACE_S
from corral_schemas.ops import OPS
from corral_testkit.sim.audit import GuestTruth
from corral_testkit.sim.guest import SimGuest
from corral_testkit.sim.history import Asked, History, OutputSeen, StreamSeen
from corral_testkit.sim.scenario import RUNTIME_TEXTS
from corral_testkit.sim.witness import Life, Witness, generated

RUNTIME_CODES = ("command_not_found", "runtime_failed", "storage_full")
"""Of the scenario's RUNTIME_TEXTS."""
SETTLED_S = 5.0
"""Ends of processes so long before the audit must be known by then."""
VIOLENT = frozenset({"shim died", "power", "buried"})
NOT_TOLD = frozenset(
    {"guest_unreachable", "guest_busy", "deadline_exceeded", "outcome_unknown", "wait_timeout", "storage_full", "request_conflict"}
)
"""Codes that a repeat may bring though the command itself had another outcome."""


@dataclass
class Evidence:
    """All there is to judge by."""

    guests: dict[str, SimGuest]
    witness: Witness
    history: History
    truths: dict[str, GuestTruth]
    rewound: dict[str, list[float]]
    """Guest → when its journal was set back or lost."""
    quiet: Callable[[set[str], float, float], bool]
    """(hosts, from, to) → whether nothing was wrong with any of them, nor with a broker."""
    began_s: float
    audited_s: float
    names: list[str]
    """Guests by their number in the scenario."""


Findings = Iterator[str]


def findings(evidence: Evidence) -> list[str]:
    """Everything that is wrong, each line beginning with the guarantee it breaks."""
    return [line for validator in VALIDATORS for line in validator(evidence)]


# -- exits -----------------------------------------------------------------------------------------------------------------------


def exits_are_the_witness_s(evidence: Evidence) -> Findings:
    """G1, G2, G16: what is told of an end is what happened; `lost` only where it was not to be known."""
    for instance, seen in evidence.history.exits.items():
        life = evidence.witness.by_instance.get(instance)
        for one in seen:
            wrong = _wrong_exit(life, one.exit)
            if wrong:
                yield f"G2 exit of {_name(life, instance)} by {one.where}: {wrong}"


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
            yield f"G3 exit of {_name(evidence.witness.by_instance.get(instance), instance)} differs: {sorted(map(str, told))}"


def _guest_of(evidence: Evidence, instance: str) -> set[str]:
    life = evidence.witness.by_instance.get(instance)
    return {life.guest} if life is not None else set()


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
                yield f"G1 {guest}: no exit of {_name(life, instance)}, which has ended: {life}"
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
                yield f"G16 {_name(life, life.instance)} was made, and nothing is known of it"


# -- output ----------------------------------------------------------------------------------------------------------------------


def output_is_what_was_printed(evidence: Evidence) -> Findings:
    """G4, G5, G8: contiguous, the very bytes, and as many as there were."""
    for seen in evidence.history.outputs:
        life = evidence.witness.by_instance.get(seen.instance)
        if life is None:
            continue
        where = f"output of {_name(life, seen.instance)} to {seen.client}"
        at: dict[str, int] = defaultdict(int)
        for stream, start, end, data, reason in seen.pieces:
            if start != at[stream]:
                yield f"G5 {where}: {stream} goes on at {start} after {at[stream]}"
            at[stream] = end
            if data is not None:
                if data != life.printed(stream, start, end - start):
                    yield f"G4 {where}: {stream} {start}-{end} holds other bytes than were printed"
            elif not _may_have_gaps(evidence, life, stream, reason):
                yield f"G5 {where}: {stream} {start}-{end} missing: {reason}"
        yield from _totals(evidence, life, seen, at, where)


def _may_have_gaps(evidence: Evidence, life: Life, stream: str, reason: str) -> bool:
    if reason == "cap" and sum(state.offset for state in life.produced.values()) > CAP_SAFE_BYTES:
        return True
    if evidence.guests[life.guest].disk.was_full and reason in ("disk_full", "missing", "cap"):  # the oldest goes for the newest
        return True
    if reason == "shim_died":
        return life.container in evidence.guests[life.guest].shims_killed
    return life.spool_cut and reason != "unannounced"


READ_S_MAX = 1.0
CAP_SAFE_BYTES = 60 << 10
"""Output of less than this stays under the scenario's cap."""


def _totals(evidence: Evidence, life: Life, seen: OutputSeen, at: dict[str, int], where: str) -> Findings:
    if not seen.finished:
        if seen.client == "auditor" and not _is_held_open(evidence, life):
            yield f"G4 {where}: does not come to its end: {seen.failure}, {dict(at)} of { {n: s.offset for n, s in life.produced.items()} }"
        return
    for stream, end in seen.ends.items():
        if at[stream] != end.total and not (life.spool_cut and at[stream] > end.total):
            yield f"G4 {where}: {stream} has {at[stream]} of {end.total} bytes"
        produced = life.produced[1 if stream == "stdout" else 2].offset
        if life.reaped and not life.spool_cut and life.why not in VIOLENT and end.total != produced:
            yield f"G4 {where}: {stream} ends at {end.total}, but {produced} bytes were printed"


def readers_do_not_wait_for_each_other(evidence: Evidence) -> Findings:
    """G7: where nothing is wrong, a reader comes to the end soon after it is there, whoever else reads, slowly or not."""
    for seen in evidence.history.outputs:
        life = evidence.witness.by_instance.get(seen.instance)
        if life is None or not seen.finished or not evidence.quiet({life.guest, seen.client}, seen.began_s, seen.finished_s):
            continue
        late_s = seen.finished_s - max(seen.began_s, life.ended_s, life.closed_s)
        if late_s > READ_S_MAX:
            yield f"G7 output of {_name(life, seen.instance)} to {seen.client}: its end came {late_s:.3f} s late"


def _is_held_open(evidence: Evidence, life: Life) -> bool:
    """A child that holds a stream, in a paused container say: it has not ended."""
    container = evidence.guests[life.guest].kernel.containers.get(life.container)
    return container is not None and any(one.life is life and any(one.open.values()) for one in container.processes)


# -- events ----------------------------------------------------------------------------------------------------------------------


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


# -- commands --------------------------------------------------------------------------------------------------------------------


def nothing_runs_twice(evidence: Evidence) -> Findings:
    """G13, G24: one request, at most one process; one kill, at most one signal.

    A container may be created while its intent goes to disk: one that was removed before it was started has not run.
    """
    for token, made in evidence.witness.by_token.items():
        lives = [life for life in made if life.started_s is not None or life.end is None]
        if len(lives) > 1 and not _asked_anew(evidence, token, lives[0].guest):
            yield f"G13 {token} was made {len(lives)} times: {[(life.instance, life.created_s, life.why) for life in lives]}"
    for life in evidence.witness.lives:
        for number, count in Counter(number for number, _ in life.signals if number >= 34).items():
            if count > 1:
                yield f"G13 signal {number} was sent {count} times to {_name(life, life.instance)}"


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
    """G14: no ghosts of commands that were refused, given up and cancelled."""
    by_request: dict[str, list[Asked]] = defaultdict(list)
    for asked in evidence.history.asked:
        by_request[asked.step.request_id].append(asked)
    for request_id, all_asked in by_request.items():
        step = all_asked[0].step
        if step.op not in ("create", "run", "exec"):
            continue
        lives = evidence.witness.by_token.get(step.token, [])
        if lives and all(isinstance(one.outcome, CorralError) and one.outcome.details.get("sent") is False for one in all_asked):
            yield f"G14 {request_id} {step.op} was never sent, they say, but {_name(lives[0], lives[0].instance)} was made"
    steps = {asked.step.number: asked.step for asked in evidence.history.asked}
    for asked in evidence.history.asked:
        if asked.step.op == "cancel" and isinstance(asked.outcome, CancelReply) and asked.outcome.outcome == "cancelled":
            target = steps.get(asked.step.details["of"])
            lives = evidence.witness.by_token.get(target.token, []) if target is not None and target.script is not None else []
            lost_s = evidence.rewound.get(evidence.names[asked.step.guest], [])
            if lives and not any(asked.sent_s < at_s < lives[0].created_s for at_s in lost_s):  # else the cancel went with the journal
                yield f"G14 {target.request_id if target else ''} was cancelled, but {_name(lives[0], lives[0].instance)} was made"


def nothing_runs_after_its_deadline(evidence: Evidence) -> Findings:
    """G14, G15: what was not begun in time is not begun at all. Time in which no worker ran does not count."""
    latest_s: dict[str, float] = {}
    for asked in evidence.history.asked:
        if asked.step.script is not None:
            latest_s[asked.step.token] = max(latest_s.get(asked.step.token, 0.0), asked.deadline_s)
    for life in evidence.witness.lives:
        deadline_s = latest_s.get(life.token, life.created_s)
        absences = evidence.guests[life.guest].absences
        away_s = sum(min(until_s, life.created_s) - from_s + RESTART_S for from_s, until_s in absences if from_s < life.created_s)
        if life.created_s > deadline_s + GHOST_S + away_s:
            yield f"G14 {_name(life, life.instance)} was made {life.created_s - deadline_s:.3f} s after its deadline"


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


def runtime_errors_have_their_codes(evidence: Evidence) -> Findings:
    """G18: by what the runtime says."""
    for asked in evidence.history.asked:
        script = asked.step.script
        if script is not None and script.fails and isinstance(asked.outcome, CorralError):
            told, right = asked.outcome.code, RUNTIME_CODES[RUNTIME_TEXTS.index(script.fails)]
            if asked.outcome.message == script.fails and told != right:
                yield f"G18 {asked.step.request_id}: {script.fails!r} became {told}, not {right}"


def nothing_is_left_running(evidence: Evidence) -> Findings:
    """G14, G15: what runs is in the list, and has a shim; every shim has a container."""
    for name, guest in evidence.guests.items():
        listed = {state.instance: state for state in evidence.truths[name].containers}
        for instance, container in guest.kernel.containers.items():
            living = [one for one in container.processes if not one.ended]
            if living and instance not in listed:
                yield f"G14 {name}: {living[0].life.token} runs, but no container of instance {instance} is listed"
            if living and instance not in guest.shims:
                yield f"G16 {name}: {living[0].life.token} runs without a shim"
        for instance, shim in guest.shims.items():
            if instance not in listed:
                yield f"G20 {name}: the shim of {shim.name} {instance} lives, but there is no such container"
        for instance, state in listed.items():
            there = guest.kernel.containers.get(instance)
            real = there.status if there is not None else "stopped"
            if state.status in ("created", "running", "paused") and real != state.status:
                yield f"G16 {name}: {state.id} is listed as {state.status}, but it is {real}"


def stdin_came_once(evidence: Evidence) -> Findings:
    """G13: every byte of stdin once and in order."""
    for life in evidence.witness.lives:
        if life.stdin and bytes(life.stdin) != generated(sum(map(ord, life.token)), 0, len(life.stdin)):
            yield f"G13 stdin of {_name(life, life.instance)} is not what was written"


def _name(life: Life | None, instance: str) -> str:
    return f"{life.guest}/{life.token}/{instance[-4:]}" if life is not None else instance


VALIDATORS: list[Callable[[Evidence], Findings]] = [
    exits_are_the_witness_s,
    exits_are_the_same_for_all,
    each_start_has_one_exit,
    nothing_lives_unknown,
    output_is_what_was_printed,
    readers_do_not_wait_for_each_other,
    events_are_contiguous,
    nothing_is_missed_from_the_start,
    events_are_the_same_for_all,
    events_came_to_the_end,
    mirrors_are_true,
    nothing_runs_twice,
    replies_agree_and_are_true,
    outcomes_can_be_asked_again,
    kills_that_were_delivered_were,
    what_was_not_sent_never_ran,
    nothing_runs_after_its_deadline,
    commands_end_in_time,
    what_queues_behind_nothing_is_quick,
    runtime_errors_have_their_codes,
    nothing_is_left_running,
    stdin_came_once,
]
