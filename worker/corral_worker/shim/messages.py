"""The messages between a worker, its shims and its zygote: a wire format, since a worker adopts shims that another version started.

One frame (`base/wire.py`) holds one of these as a JSON object, and for `stdin` the bytes beside it. Within a version fields and kinds are
only added: a receiver ignores a field that it does not know, and an absent field has the meaning that it had before there was one.
`VERSION` of `base/wire.py` rises when something is given another meaning. Shims do not import this at run time, since it would cost each
of them memory; tests hold every message of a real shim and of a real worker against it, and lines recorded in the past.
"""

from typing import Any, Literal, NotRequired, TypedDict

# -- worker → shim --------------------------------------------------------------------------------------------------------------------


class Hello(TypedDict):
    """The first message of a connection. The highest generation is heard; `version`: the worker's, absent = 1."""

    t: Literal["hello"]
    generation: int
    guest: str
    version: NotRequired[int]


class ProcessParameters(TypedDict):
    """What a create, run or exec makes; the shim keeps it as the process's `meta`."""

    instance: str
    id: str
    tty: bool
    stdin: bool
    rows: int
    columns: int
    cap_bytes: int
    policy: str
    lease_ms: int
    pid_file: str


class _Request(TypedDict):
    t: Literal["request"]
    id: str


class CreateRequest(_Request):
    """Runs the runtime to make the container (`run`: and start it). `cleanup_argv` undoes it if it fails."""

    step: Literal["create", "run"]
    argv: list[str]
    log: str
    timeout_ms: NotRequired[int | None]
    process: ProcessParameters
    cleanup_argv: NotRequired[list[str]]
    kill_rest_on_init_exit: NotRequired[bool]


class ExecRequest(_Request):
    """Runs the runtime for one more process."""

    step: Literal["exec"]
    argv: list[str]
    log: str
    timeout_ms: NotRequired[int | None]
    process: ProcessParameters


class RuntimeRequest(_Request):
    """Runs the runtime on the container that is there."""

    step: Literal["start", "pause", "resume", "update"]
    argv: list[str]
    log: str
    timeout_ms: NotRequired[int | None]


class DeleteRequest(_Request):
    """Deletes the container; once its answer is acknowledged the shim ends. `plain_runc`: the shim may do it without the runtime."""

    step: Literal["delete"]
    argv: list[str]
    log: str
    timeout_ms: NotRequired[int | None]
    plain_runc: NotRequired[bool]


class SignalRequest(_Request):
    """Sends a signal to a process, or with `all` to everything in the container."""

    step: Literal["signal"]
    process: str
    signal: int
    all: NotRequired[bool]


class StdinRequest(_Request):
    """The bytes beside it are for the process's stdin, from `offset` of this writer."""

    step: Literal["stdin"]
    process: str
    offset: int
    writer: NotRequired[str]


class CloseStdinRequest(_Request):
    """Ends stdin, once it has come to `offset` (null: now)."""

    step: Literal["close_stdin"]
    process: str
    offset: NotRequired[int | None]
    writer: NotRequired[str]


class ResizeRequest(_Request):
    """Gives the process's terminal another size."""

    step: Literal["resize"]
    process: str
    rows: int
    columns: int


class Ack(TypedDict):
    """Notice `n` is recorded: the shim forgets it."""

    t: Literal["ack"]
    n: int


class AckResponse(TypedDict):
    """The answer is recorded: the shim forgets it."""

    t: Literal["ack_response"]
    id: str
    step: str


class Cancel(TypedDict):
    """Gives a request up: out of the queue, or as at its deadline."""

    t: Literal["cancel"]
    id: str


class Arm(TypedDict):
    """Asks for one `grew` when a stream has more than `after` says or ended, or (unless `exited`) the process exited."""

    t: Literal["arm"]
    process: str
    after: dict[str, int]
    exited: NotRequired[bool]


class Consumed(TypedDict):
    """The named consumer of a `block` process has this much, and renews its lease."""

    t: Literal["consumed"]
    process: str
    streams: dict[str, int]


class Ping(TypedDict):
    """Asks for a `pong`."""

    t: Literal["ping"]


# -- shim → worker --------------------------------------------------------------------------------------------------------------------


class StreamState(TypedDict):
    """How far a stream is in the spool."""

    offset: int
    crc: NotRequired[int]
    open: bool


class ExitAtRest(TypedDict):
    """An exit as a shim keeps it, also in the end file; of `lost` processes there is none."""

    type: str
    code: NotRequired[int]
    signal: NotRequired[int]
    core: NotRequired[bool]
    oom_seen: NotRequired[bool]
    started_ns: NotRequired[int]
    exited_ns: NotRequired[int]
    user_us: NotRequired[int]
    system_us: NotRequired[int]
    max_rss_kib: NotRequired[int]


class ProcessState(TypedDict):
    """One process in `state`."""

    instance: str
    id: str
    pid: int | None
    stdin_offset: int
    streams: dict[str, StreamState]
    exit: ExitAtRest | None
    blocked_since_ns: int | None


class Failure(TypedDict):
    """Why a request came to nothing. `exit_status` and `text`: the runtime's."""

    kind: str
    exit_status: int | None
    text: str
    details: dict[str, Any]


class Response(TypedDict):
    """The answer to a request: `ok` or `error`. It comes again until it is acknowledged, also to the next worker."""

    t: Literal["response"]
    id: str
    step: str
    ok: NotRequired[dict[str, Any]]
    error: NotRequired[Failure]


class Pending(TypedDict):
    """A request that is queued or running."""

    id: str
    step: str


class State(TypedDict):
    """The answer to a hello: all there is. Unacknowledged notices follow. `version`: the shim's, absent = 1."""

    t: Literal["state"]
    instance: str
    pid: int
    processes: list[ProcessState]
    responses: list[Response]
    pending: list[Pending]
    strangers_reaped: int
    version: NotRequired[int]


class Refused(TypedDict):
    """The answer to a hello of an older generation, or for another guest; the shim closes then."""

    t: Literal["refused"]
    generation: int


class Grew(TypedDict):
    """What `arm` asked for; it may be lost. No streams: the process is not known any more."""

    t: Literal["grew"]
    process: str
    streams: dict[str, StreamState]
    exited: bool


class Pong(TypedDict):
    """The answer to `ping`."""

    t: Literal["pong"]


class StreamEnd(TypedDict):
    """How far a stream was at the exit: `closed` with its total, or `open` with its offset so far."""

    state: Literal["closed", "open"]
    total: NotRequired[int]
    offset: NotRequired[int]
    crc: int


class ExitKind(TypedDict):
    """How a process ended."""

    type: Literal["exited", "signalled"]
    code: NotRequired[int]
    signal: NotRequired[int]
    core: NotRequired[bool]


class Exit(TypedDict):
    """Notice: a process exited."""

    t: Literal["exit"]
    n: int
    process: str
    exit: ExitKind
    oom_seen: bool
    started_ns: int
    exited_ns: int
    user_us: int
    system_us: int
    max_rss_kib: int
    streams: dict[str, StreamEnd]


class StreamEnded(TypedDict):
    """Notice: a stream ended apart from its process's exit."""

    t: Literal["stream_end"]
    n: int
    process: str
    stream: int
    total: int
    crc: int


Gap = TypedDict(
    "Gap", {"t": Literal["gap"], "n": int, "process": str, "stream": int, "from": int, "to": int, "reason": str}
)  # a class cannot have `from`
Gap.__doc__ = "Notice: these bytes of a stream are not in the spool."


class Oom(TypedDict):
    """Notice: so many times in all something of the container was killed for want of memory."""

    t: Literal["oom"]
    n: int
    count: int


class Blocked(TypedDict):
    """Notice: a `block` process waits for its consumer since then; null: it goes on."""

    t: Literal["blocked"]
    n: int
    process: str
    since_ns: int | None


class Storage(TypedDict):
    """Notice: the container's output cannot be written (`full`), or can be again."""

    t: Literal["storage"]
    n: int
    full: bool


Notice = Exit | StreamEnded | Gap | Oom | Blocked | Storage
"""Numbered, and sent until acknowledged."""


# -- worker → zygote, zygote → worker ---------------------------------------------------------------------------------------------------


class Fork(TypedDict):
    """Asks for the shim of an instance: a new one, or the one there is."""

    t: Literal["fork"]
    instance: str
    name: str


class ListShims(TypedDict):
    """Asks for the shims that live."""

    t: Literal["list"]


class Quit(TypedDict):
    """Ends the zygote; its shims live on."""

    t: Literal["quit"]


class Forked(TypedDict):
    """The shim of the instance listens. `version`: the zygote's and that of shims it makes, absent = 1."""

    t: Literal["forked"]
    instance: str
    pid: int
    version: NotRequired[int]


class ForkFailed(TypedDict):
    """There is no shim of the instance, and why. `errno`: of the call that failed."""

    t: Literal["fork_failed"]
    instance: str
    reason: str
    errno: NotRequired[int | None]


class Shims(TypedDict):
    """The pids of the shims that live, by instance."""

    t: Literal["shims"]
    shims: dict[str, int]


class ShimGone(TypedDict):
    """A shim died, and what it left has been killed. `status`: its wait status, null where another parent has it."""

    t: Literal["shim_gone"]
    instance: str
    status: int | None


REQUESTS: dict[str, type] = {
    "create": CreateRequest,
    "run": CreateRequest,
    "exec": ExecRequest,
    "start": RuntimeRequest,
    "pause": RuntimeRequest,
    "resume": RuntimeRequest,
    "update": RuntimeRequest,
    "delete": DeleteRequest,
    "signal": SignalRequest,
    "stdin": StdinRequest,
    "close_stdin": CloseStdinRequest,
    "resize": ResizeRequest,
}
"""By `step`."""
NOTICES: dict[str, type] = {"exit": Exit, "stream_end": StreamEnded, "gap": Gap, "oom": Oom, "blocked": Blocked, "storage": Storage}
"""By `t`."""
TO_SHIM: dict[str, type] = {
    "hello": Hello,
    "ack": Ack,
    "ack_response": AckResponse,
    "cancel": Cancel,
    "arm": Arm,
    "consumed": Consumed,
    "ping": Ping,
}
"""By `t`; `request` apart."""
FROM_SHIM: dict[str, type] = {"state": State, "refused": Refused, "response": Response, "grew": Grew, "pong": Pong, **NOTICES}
TO_ZYGOTE: dict[str, type] = {"fork": Fork, "list": ListShims, "quit": Quit}
FROM_ZYGOTE: dict[str, type] = {"forked": Forked, "fork_failed": ForkFailed, "shims": Shims, "shim_gone": ShimGone}


def definition(message: dict[str, Any], table: dict[str, type]) -> type | None:
    """What such a message is defined by; None for an unknown kind or step. `table`: one of those above."""
    if message.get("t") == "request" and table is TO_SHIM:
        return REQUESTS.get(str(message.get("step")))
    return table.get(str(message.get("t")))
