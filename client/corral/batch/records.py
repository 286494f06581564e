"""The lines of a joblog: what was done, each a JSON object whose `type` says which."""

from typing import Any, Literal

import msgspec

Outcome = Literal["ok", "failed", "timeout", "unreachable", "skipped", "unknown"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "failed", "timeout", "unreachable", "skipped", "unknown")
TRIED_AGAIN = frozenset({"failed", "timeout", "unreachable"})
"""Outcomes after which a retry is right: that of `unknown` might be the second time."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of all lines. Times are nanoseconds since 1970, by the clock of the machine that runs the batch."""

    time_ns: int


class RunBegan(Record, frozen=True, kw_only=True, tag="run"):
    run: str
    plan: str


class StepBegan(Record, frozen=True, kw_only=True, tag="step"):
    """Its targets are fixed from here on (targets/STEP.jsonl)."""

    step: str
    targets: int
    window: int


class Sent(Record, frozen=True, kw_only=True, tag="sent"):
    """On disk before the command goes out: whoever resumes asks the guest about this request first."""

    step: str
    key: str
    number: int
    attempt: int
    guest: str
    request: str
    epoch: str = ""
    """The guest's epoch as known then: in another one nobody remembers the request."""
    args: dict[str, Any] = {}


class Tried(Record, frozen=True, kw_only=True, tag="tried"):
    """An attempt that did not end ok, with another one to follow."""

    step: str
    key: str
    attempt: int
    outcome: Outcome
    reason: str = ""
    counted: bool = True
    """Whether it was one of the step's retries; not so when the command never left and another guest takes it."""


class Ended(Record, frozen=True, kw_only=True, tag="end"):
    """The one end of a target (until a person reopens it)."""

    step: str
    key: str
    number: int
    outcome: Outcome
    guest: str = ""
    item: str | None = None
    attempts: int = 0
    status: int | None = None
    """Exit status as a shell shows it, where a process ended."""
    signal: int = 0
    reason: str = ""
    started_ns: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


class Reopened(Record, frozen=True, kw_only=True, tag="reopened"):
    """A person wants this target done after all."""

    step: str
    key: str


class StepEnded(Record, frozen=True, kw_only=True, tag="step_end"):
    step: str
    failures: int
    """Targets that did not end ok."""
    halted: bool = False
    """By --halt: the run goes no further."""


class Resumed(Record, frozen=True, kw_only=True, tag="resumed"):
    pid: int


class RunEnded(Record, frozen=True, kw_only=True, tag="run_end"):
    status: int


AnyRecord = RunBegan | StepBegan | Sent | Tried | Ended | Reopened | StepEnded | Resumed | RunEnded
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)
_encoder = msgspec.json.Encoder()


def to_line(record: AnyRecord) -> bytes:
    """With its line break."""
    return _encoder.encode(record) + b"\n"


def from_line(line: bytes) -> AnyRecord:
    """Raises msgspec.DecodeError (a ValidationError for JSON of another shape)."""
    return _decoder.decode(line)
