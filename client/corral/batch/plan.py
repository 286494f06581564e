"""What a plan says: the words of its file as Structs (the source of the published JSON Schema), and what they mean to the runner."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from corral.units import parse_duration_s

PLAN_VERSION = 1
STEPS_MAX = 1_000
WINDOW_DEFAULT = 16
RETRIES_MAX = 1_000
BACKOFF_DEFAULT_S = 1.0
BACKOFF_MAX_S = 60.0
RANGE_ITEMS_MAX = 10_000_000

OpName = Literal["run", "exec", "create", "start", "kill", "stop", "pause", "resume", "update", "delete", "wait", "state", "ps", "stats"]
PROCESS_OPS = frozenset({"run", "exec", "wait"})
"""Done when the process has exited; ok when it exited with 0."""
NAMES_MADE_UP = {"run": "container", "create": "container", "exec": "process"}
"""op → the argument that gets a name of Corral's own where it is left out."""

Duration = Annotated[
    float | str,
    Meta(description="Seconds, or text such as 500ms, 10s, 2m30s, 1h", extra_json_schema={"minimum": 0}),
]
Item = Annotated[str | int | float, Meta(description="One item; `{}` in the arguments stands for it")]


class ItemsFrom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Items from elsewhere: exactly one of the three."""

    file: Annotated[str, Meta(description="A file, one item a line; relative to the plan")] = ""
    stdin: Annotated[bool, Meta(description="Standard input, one item a line")] = False
    range: Annotated[
        Annotated[list[int], Meta(min_length=2, max_length=3)] | None,
        Meta(description="First and last number, both included, and the step between them"),
    ] = None


class StepText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step, as it is written."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+.-]+$", description="Unique in the plan")]
    op: Annotated[
        OpName, Meta(description="What is done to each target; run, exec and wait last until the process has exited (see detach)")
    ]
    args: Annotated[
        dict[str, Any],
        Meta(description="The op's arguments; `{}` `{n}` `{guest}` `{label.NAME}` are filled in, `{{}}` is a `{}` that stays"),
    ] = {}
    select: Annotated[str, Meta(description="Which guests: all, g1,g2, web-*, role=web, role in (web,db)")] = "all"
    items: Annotated[list[Item] | ItemsFrom | None, Meta(description="With items a target is a guest and an item")] = None
    on: Annotated[
        Literal["each", "any"],
        Meta(description="each: every guest does every item. any: each item is done once, where there is least to do"),
    ] = "each"
    detach: Annotated[bool, Meta(description="run and exec are done when the process has started, not when it has exited")] = False
    window: Annotated[int | str, Meta(description="Most targets under way at a time: a number, or 10% of all")] = WINDOW_DEFAULT
    barrier: Annotated[bool, Meta(description="Wait for a whole window to end before the next; otherwise one in as one goes out")] = False
    timeout: Annotated[Duration | None, Meta(description="Of each attempt at a target; what it started is killed then")] = None
    step_timeout: Annotated[Duration | None, Meta(description="Of the whole step; targets not begun by then are skipped")] = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MAX, description="How often a target that failed is tried again")] = 0
    backoff: Annotated[Duration, Meta(description="Pause before the first retry; doubled each time, up to a minute")] = BACKOFF_DEFAULT_S
    on_failure: Annotated[
        str, Meta(pattern=r"^(stop|continue|run .+)$", description="After the step, when a target did not end ok: stop, continue, run STEP")
    ] = "stop"


class PlanText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A plan, as it is written."""

    version: Annotated[Literal[1], Meta(description="Of this format")]
    steps: Annotated[list[StepText], Meta(min_length=1, max_length=STEPS_MAX, description="Carried out in this order")]


@dataclass(frozen=True, slots=True)
class Window:
    """N, or a share of all targets."""

    count: int = WINDOW_DEFAULT
    percent: float = 0.0

    def of(self, targets: int) -> int:
        """At least 1."""
        return max(1, math.floor(targets * self.percent / 100)) if self.percent else self.count


@dataclass(frozen=True, slots=True)
class Step:
    """A step as the runner takes it."""

    name: str
    op: str
    args: dict[str, Any]
    select: str
    items: list[Item] | ItemsFrom | None
    on: Literal["each", "any"]
    detach: bool
    window: Window
    barrier: bool
    timeout_s: float | None
    step_timeout_s: float | None
    retries: int
    backoff_s: float
    on_failure: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan without mistakes."""

    steps: tuple[Step, ...]

    @property
    def handlers(self) -> frozenset[str]:
        """Steps that only run when another one failed (`on_failure: run STEP`)."""
        return frozenset(handler for step in self.steps if (handler := handler_of(step.on_failure)))

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)


def handler_of(on_failure: str) -> str:
    """`run STEP` → STEP; otherwise empty."""
    return on_failure.removeprefix("run ").strip() if on_failure.startswith("run ") else ""


def parse_window(value: int | str) -> Window:
    """`8`, `"8"`, `"25%"`. Raises ValueError."""
    text = str(value).strip()
    if text.endswith("%"):
        try:
            share = float(text[:-1])
        except ValueError:
            share = 0.0
        if not 0 < share <= 100:
            raise ValueError(f"{value!r} is not a share between 0% and 100%")
        return Window(percent=share)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{value!r} is not a number from 1 on, nor a share such as 10%")
    return Window(count=int(text))


def parse_duration(value: float | str) -> float:
    """Seconds. Raises ValueError."""
    seconds = parse_duration_s(value) if isinstance(value, str) else float(value)
    if not 0 <= seconds < 1e9:
        raise ValueError(f"{value!r} is not a duration")
    return seconds


def to_step(text: StepText) -> Step:
    """Raises ValueError where a window or a duration means nothing."""
    return Step(
        name=text.name,
        op=text.op,
        args=text.args,
        select=text.select,
        items=text.items,
        on=text.on,
        detach=text.detach,
        window=parse_window(text.window),
        barrier=text.barrier,
        timeout_s=None if text.timeout is None else parse_duration(text.timeout),
        step_timeout_s=None if text.step_timeout is None else parse_duration(text.step_timeout),
        retries=text.retries,
        backoff_s=parse_duration(text.backoff),
        on_failure=text.on_failure,
    )
