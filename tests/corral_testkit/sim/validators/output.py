"""Output: the very bytes, all of them or an explicit gap, and nobody waits for another reader."""

from __future__ import annotations

from collections import defaultdict

from corral_testkit.sim.history import OutputSeen
from corral_testkit.sim.validators.evidence import Evidence, Findings, name_of
from corral_testkit.sim.validators.exits import VIOLENT
from corral_testkit.sim.witness import Life


def output_is_what_was_printed(evidence: Evidence) -> Findings:
    """G4, G5, G8: contiguous, the very bytes, and as many as there were."""
    for seen in evidence.history.outputs:
        life = evidence.witness.by_instance.get(seen.instance)
        if life is None:
            continue
        where = f"output of {name_of(life, seen.instance)} to {seen.client}"
        at: dict[str, int] = defaultdict(int)
        for stream, start, end, data, reason in seen.pieces:
            if start != at[stream]:
                yield f"G5 {where}: {stream} goes on at {start} after {at[stream]}"
            at[stream] = end
            if data is not None:
                if data != life.printed(stream, start, end - start):
                    yield f"G4 {where}: {stream} {start}-{end} holds other bytes than were printed"
            elif not _may_have_gaps(evidence, life, end - start, reason):
                yield f"G5 {where}: {stream} {start}-{end} missing: {reason}"
        yield from _totals(evidence, life, seen, at, where)


def _may_have_gaps(evidence: Evidence, life: Life, length: int, reason: str) -> bool:
    if not length and life.orphaned:  # how much is missing nobody knows, nor whether anything is
        return True
    if reason == "cap" and sum(state.offset for state in life.produced.values()) > CAP_SAFE_BYTES:
        return True
    if evidence.guests[life.guest].disk.was_full and reason in ("disk_full", "missing", "cap", "power_cut"):
        # the oldest goes for the newest; and what could not be written is found missing after a power cut
        return True
    if reason == "shim_died":
        return life.container in evidence.guests[life.guest].shims_killed
    return life.spool_cut and reason != "unannounced"


def raw_output_is_what_was_printed(evidence: Evidence) -> Findings:
    """G5: what raw subscribers get may have holes, but its offsets say so."""
    for seen in evidence.history.raw:
        life = evidence.witness.by_instance.get(seen.instance)
        if life is None or seen.data != life.printed(seen.stream, seen.offset, len(seen.data)):
            where = f"{name_of(life, seen.instance)} {seen.stream} {seen.offset}"
            yield f"G5 raw output of {where} to {seen.client} holds other bytes than were printed there"


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
            yield f"G7 output of {name_of(life, seen.instance)} to {seen.client}: its end came {late_s:.3f} s late"


def _is_held_open(evidence: Evidence, life: Life) -> bool:
    """A child that holds a stream, in a paused container say: it has not ended."""
    container = evidence.guests[life.guest].kernel.containers.get(life.container)
    return container is not None and any(one.life is life and any(one.open.values()) for one in container.processes)
