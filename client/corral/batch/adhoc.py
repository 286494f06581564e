"""A plan of one step, from words on the command line: what `corral batch run --select all --on any … -- CMD {}` means."""

from collections.abc import Sequence
from typing import Any

import msgspec

from corral.batch.filling import placeholders

ADHOC_STEP = "run"


def adhoc_plan(
    words: Sequence[str], *, rootfs: str, container: str, step: dict[str, Any], items: bool, mounts: Sequence[dict[str, Any]] = ()
) -> bytes:
    """A plan as JSON. rootfs: each target is a container of its own; container: an exec in that one. Where no word has `{}`, the item is
    the last word, as with xargs. `step`: further members of the step."""
    program = list(words)
    if items and not any("{}" in placeholders(word) for word in program):
        program.append("{}")
    args: dict[str, Any]
    if rootfs:
        args = {"spec": {"rootfs": rootfs, "args": program, **({"mounts": list(mounts)} if mounts else {})}}
    else:
        args = {"container": container, "spec": {"args": program}}
    made = {"name": ADHOC_STEP, "op": "run" if rootfs else "exec", "args": args, **step, **({"items": {"stdin": True}} if items else {})}
    return msgspec.json.format(msgspec.json.encode({"version": 1, "steps": [made]}), indent=2) + b"\n"
