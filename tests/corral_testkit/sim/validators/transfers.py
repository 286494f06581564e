"""Bundles and files: what is there is what was sent, and what was answered is there."""

from __future__ import annotations

import math
from collections import defaultdict

from corral_schemas.bundle_rules import decode_manifest
from corral_schemas.bundles import InspectBundleReply
from corral_schemas.errors import CorralError
from corral_testkit.sim.contents import file_bytes
from corral_testkit.sim.history import Transfer
from corral_testkit.sim.transfers import path_of
from corral_testkit.sim.validators.evidence import Evidence, Findings

NEVER = frozenset(
    {"bundle_invalid", "content_corrupt", "bundle_incomplete", "bundle_in_use", "runtime_failed", "bad_request", "file_changed"}
)
"""Codes that no fault may bring: the library asks again, and nobody else touches a file or uses a bundle."""
LATE_S = 60.0
"""A removal without an outcome has taken effect by then, or never does."""


def bundles_are_what_was_pushed(evidence: Evidence) -> Findings:
    """G5: every byte of a bundle that a guest says it has is on its disk, whatever became of its power."""
    for name, truth in evidence.truths.items():
        for info in truth.bundles:
            content = evidence.contents.of(info.digest)
            if content is None:
                yield f"G5 {name} has a bundle {info.digest} that nobody pushed"
                continue
            wrong = content.wrong_in(evidence.guests[name].paths.bundles / "sha256" / info.digest.removeprefix("sha256:") / "rootfs")
            if wrong:
                yield f"G5 {name} says that {content.name} is whole, but {wrong} are not what was pushed"


def looks_show_what_was_pushed(evidence: Evidence) -> Findings:
    """G5: of a bundle that is visible all entries are told, as they were sent."""
    for one in evidence.history.transfers:
        if isinstance(one.outcome, InspectBundleReply):
            content = evidence.contents.of(one.outcome.bundle.digest)
            if content is None or decode_manifest(content.packed.manifest).entries != one.outcome.entries:
                yield f"G5 {one.client} looked at {one.outcome.bundle} of {one.guest}, which is not what was pushed"


def pushes_that_were_answered_are_there(evidence: Evidence) -> Findings:
    """G23: and have their name, until somebody removes them; what a power cut took before its sync may be gone."""
    for push in evidence.history.transfers:
        if push.step.op != "push" or not push.ok or push.done_s > evidence.audited_s or evidence.rewound.get(push.guest):
            continue
        content = evidence.contents.bundles[push.step.details["bundle"]]
        bare = content.packed.digest.removeprefix("sha256:")
        if any(bare == torn and at_s > push.sent_s for at_s, torn in evidence.guests[push.guest].bundles.torn):
            continue
        there = any(content.name in info.names and info.digest.endswith(bare) for info in evidence.truths[push.guest].bundles)
        if not there and not any(_may_undo(other, push) for other in evidence.history.transfers):
            yield f"G23 {push.client} pushed {content.name} to {push.guest} by {push.done_s:.3f} s, but it is not there"


def _may_undo(other: Transfer, push: Transfer) -> bool:
    if other.guest != push.guest or (other.done_s if other.ok else other.sent_s + LATE_S) < push.sent_s:
        return False
    if other.step.op == "remove_bundle":
        return bool(other.step.details["bundle"] == push.step.details["bundle"])
    return other.step.op == "collect_bundles" and bool(other.step.details["named"])


def transfers_fail_for_a_reason(evidence: Evidence) -> Findings:
    """G18: no error but what a fault explains."""
    for one in evidence.history.transfers:
        if isinstance(one.outcome, CorralError):
            full = one.outcome.code == "storage_full" and not evidence.guests[one.guest].disk.was_full
            if one.outcome.code in NEVER or full:
                yield f"G18 {one.step.op} {one.step.number} of {one.client} at {one.guest} failed: {one.outcome}"


def files_are_what_was_written(evidence: Evidence) -> Findings:
    """G5, G13: a file reads as one of the writes that may have been the last, and as no other."""
    writes: dict[str, list[Transfer]] = defaultdict(list)
    for one in evidence.history.transfers:
        if one.step.op == "write_file":
            writes[one.step.container].append(one)
    for one in evidence.history.transfers:
        if one.step.op == "read_file" and not evidence.rewound.get(one.guest):
            if one.ok and one.outcome not in _possible(writes[one.step.container], one.sent_s, one.done_s):
                yield f"G5 {one.client} read {len(one.outcome)} bytes of {one.step.container}'s file, which are not what was written last"
            elif isinstance(one.outcome, CorralError) and one.outcome.code == "file_not_found" and _sure(one, writes[one.step.container]):
                yield f"G13 the file of {one.step.container} was written, but {one.client} was told {one.outcome}"
    for container, written in writes.items():
        if evidence.rewound.get(written[0].guest):
            continue
        path = evidence.rootfs / path_of(container).strip("/")
        if not path.exists():
            if any(write.ok for write in written):
                yield f"G13 the file of {container} was written, but is not there"
        elif path.read_bytes() not in _possible(written, math.inf, math.inf):
            yield f"G5 the file of {container} is not what was written last"


def _possible(writes: list[Transfer], sent_s: float, done_s: float) -> list[bytes]:
    """What a read from `sent_s` to `done_s` may find."""

    def overwritten(write: Transfer) -> bool:
        return write.ok and any(other.ok and write.done_s < other.sent_s and other.done_s < sent_s for other in writes)

    return [file_bytes(one.step.container, one.step.number) for one in writes if one.sent_s <= done_s and not overwritten(one)]


def _sure(read: Transfer, writes: list[Transfer]) -> bool:
    return any(write.ok and write.done_s < read.sent_s for write in writes)
