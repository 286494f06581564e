"""Commands that ask: their arguments and replies."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from corral_schemas.base import Count, GuestName, Instance, Mark, Message, RequestId, TimeNs
from corral_schemas.commands import ContainerTarget
from corral_schemas.containers import ContainerProcessState, ContainerState, ContainerStats
from corral_schemas.cursor import Place
from corral_schemas.errors import WireError
from corral_schemas.exits import Exit
from corral_schemas.limits import FORGET_GUESTS_MAX, LONG_POLL_S_MAX, REPLAY_EVENTS_MAX
from corral_schemas.stdio import ProcessTarget


class Nothing(Message, frozen=True, kw_only=True):
    """A command without arguments."""


class StateReply(Message, frozen=True, kw_only=True):
    state: Annotated[ContainerState, Meta(description="The container")]
    place: Annotated[Place, Meta(description="The state is exactly that after this event")]


class ListArgs(Message, frozen=True, kw_only=True):
    """Lists containers at one place of the journal."""


class ListReply(Message, frozen=True, kw_only=True):
    containers: Annotated[list[ContainerState], Meta(description="All of the guest's containers")]
    place: Annotated[Place, Meta(description="The list is exactly that after this event: follow on from here without a hole")]


class PsArgs(ContainerTarget, frozen=True, kw_only=True):
    """Lists the processes in a container."""

    all: Annotated[bool, Meta(description="Also processes started by Corral that have exited and zombies")] = False


class PsReply(Message, frozen=True, kw_only=True):
    processes: Annotated[list[ContainerProcessState], Meta(description="The processes")]


class ContainerStatsReply(Message, frozen=True, kw_only=True):
    stats: Annotated[ContainerStats, Meta(description="The figures")]


class WaitArgs(ProcessTarget, frozen=True, kw_only=True):
    """Waits for a process's exit: a repeatable read, before or after it, by any number of waiters."""

    timeout_ms: Annotated[int, Meta(ge=0, le=int(LONG_POLL_S_MAX * 1000), description="wait_timeout after this; libraries ask again")] = (
        int(LONG_POLL_S_MAX * 1000)
    )


class WaitReply(Message, frozen=True, kw_only=True):
    exit: Annotated[Exit, Meta(description="How it ended")]
    process_instance: Instance


class ReplayArgs(Message, frozen=True, kw_only=True):
    """Reads the journal's events after a place."""

    epoch: Annotated[str, Meta(description="Epoch of `after`; empty: the current one")] = ""
    after: Annotated[Count, Meta(description="Give events with a seq above this")] = 0
    mark: Annotated[Mark, Meta(description="Mark of the event at `after` as the asker had it; another one here is cursor_too_old")] = 0
    kinds: Annotated[list[str], Meta(description="Only these kinds; empty: all")] = []
    limit: Annotated[int, Meta(description="Most events in the reply", ge=1, le=REPLAY_EVENTS_MAX)] = REPLAY_EVENTS_MAX
    wait_ms: Annotated[int, Meta(ge=0, le=int(LONG_POLL_S_MAX * 1000), description="Where there is none yet, wait this long for one")] = 0


class ReplayReply(Message, frozen=True, kw_only=True):
    """Events in order. `upto` may lie beyond the last event when kinds were left out."""

    epoch: Annotated[str, Meta(description="The journal's epoch")]
    events: Annotated[list[tuple[bytes, bytes]], Meta(description="Header and payload frames of each event, as they were published")]
    upto: Annotated[Count, Meta(description="Everything up to this seq has been looked at: ask again after it")]
    last_seq: Annotated[Count, Meta(description="The journal's newest durable seq")]
    durable: Annotated[
        bool, Meta(description="False: of a broker without a state directory, which keeps only what came since its start")
    ] = True


class ResultArgs(Message, frozen=True, kw_only=True):
    """Asks for the result of an earlier command of any client by its request id."""

    id: RequestId


class ResultReply(Message, frozen=True, kw_only=True):
    state: Annotated[Literal["done", "running", "unknown"], Meta(description="`unknown`: never received here, or no longer kept")]
    op: Annotated[str, Meta(description="Op of that command")] = ""
    ok: Annotated[dict[str, Any] | None, Meta(description="Its reply, where it succeeded")] = None
    error: Annotated[WireError | None, Meta(description="Its error, where it failed")] = None


class Load(Message, frozen=True, kw_only=True):
    """How busy a guest is."""

    containers: Annotated[Count, Meta(description="Containers in the guest")] = 0
    running: Annotated[Count, Meta(description="Of these, how many run")] = 0
    runtime_calls: Annotated[Count, Meta(description="Runtime calls running now")] = 0
    queued: Annotated[Count, Meta(description="Commands waiting their turn")] = 0


class GuestInfo(Message, frozen=True, kw_only=True):
    """A guest as one broker sees it."""

    guest: GuestName
    up: Annotated[bool, Meta(description="Registered, and heard lately")]
    worker: Annotated[Instance, Meta(description="Worker instance that registered")]
    epoch: Annotated[str, Meta(description="Epoch of its journal")] = ""
    seq: Annotated[Count, Meta(description="Its newest seq")] = 0
    mark: Mark = 0
    labels: Annotated[dict[str, str], Meta(description="Labels of the guest")] = {}
    version: Annotated[str, Meta(description="Corral version of the worker")] = ""
    protocol: Annotated[int, Meta(description="Protocol version its worker speaks")] = 1
    runtime: Annotated[str, Meta(description="Name and version of its runtime")] = ""
    load: Annotated[Load, Meta(description="How busy it is")] = Load()
    since_ns: Annotated[TimeNs, Meta(description="When it came up or went down, broker's clock")] = 0
    heard_ms: Annotated[Count, Meta(description="Milliseconds since it was last heard")] = 0
    in_flight: Annotated[Count, Meta(description="Commands sent to it and not answered")] = 0
    reason: Annotated[str, Meta(description="Why it is down")] = ""
    warnings: Annotated[
        list[str], Meta(description="What is wrong with it: a clock that is off, an older version, another worker under its name")
    ] = []


class GuestsReply(Message, frozen=True, kw_only=True):
    guests: Annotated[list[GuestInfo], Meta(description="All that the broker knows")]
    place: Annotated[Place, Meta(description="Place in the broker's own events (guest_up, guest_down)")]


class ForgetGuestsArgs(Message, frozen=True, kw_only=True):
    """Takes guests that left for good off a broker's list. All or nothing: one that is connected is `guest_connected`."""

    guests: Annotated[list[GuestName], Meta(min_length=1, max_length=FORGET_GUESTS_MAX, description="Names of those to take off")]


class ForgetGuestsReply(Message, frozen=True, kw_only=True):
    forgotten: Annotated[list[GuestName], Meta(description="Names that were taken off")]
    unknown: Annotated[list[GuestName], Meta(description="Names that the broker does not know")] = []


class InfoReply(Message, frozen=True, kw_only=True):
    """About a broker or a worker."""

    kind: Annotated[Literal["broker", "worker"], Meta(description="Which of the two answers")]
    version: Annotated[str, Meta(description="Its Corral version")]
    protocol: Annotated[int, Meta(description="Protocol version it speaks")]
    instance: Instance
    guest: GuestName = ""
    epoch: Annotated[str, Meta(description="Of a worker: its journal's epoch")] = ""
    seq: Annotated[Count, Meta(description="Of a worker: its journal's newest seq")] = 0
    mark: Mark = 0
    started_ns: TimeNs = 0
    limits: Annotated[dict[str, Any], Meta(description="Every limit in force, by its name")] = {}
    counters: Annotated[dict[str, int], Meta(description="Messages, drops and refusals since the start, by reason")] = {}
    about: Annotated[dict[str, Any], Meta(description="Runtime, cgroup version, paths, addresses, security")] = {}


class HelloReply(Message, frozen=True, kw_only=True):
    """What a client or worker needs to know of a broker it dialled; asked of the client address with guest empty."""

    version: Annotated[str, Meta(description="Corral version of the broker")]
    protocol: Annotated[int, Meta(description="Protocol version it speaks")]
    instance: Instance
    workers: Annotated[
        str,
        Meta(description="Of the workers' ROUTER: a port, for ipc a suffix, joined to the address dialled; or a whole address (with ://)"),
    ]
    events_in: Annotated[str, Meta(description="Likewise of the socket that workers publish events to")]
    events_out: Annotated[str, Meta(description="Likewise of the socket that subscribers get events from")]
    stdio_in: Annotated[str, Meta(description="Likewise of the socket that workers publish stdio to")]
    stdio_out: Annotated[str, Meta(description="Likewise of the socket that raw subscribers get stdio from")]
    heartbeat_ms: Annotated[Count, Meta(description="How often a guest's beacon comes while nothing moves, milliseconds")]
    shares_args: Annotated[bool, Meta(description="Arguments for several guests need come only once (`shared` in command headers)")] = False
    rate_per_s: Annotated[
        Count,
        Meta(description="Commands a second that this key may send; as many at once after a second of silence. 0: no limit"),
    ] = 0
