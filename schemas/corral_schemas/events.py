"""Events: one header, and one Struct per kind."""

import zlib
from typing import Annotated, Any, Literal

from msgspec import Meta

from corral_schemas.base import Count, Crc32, HeaderVersion, Mark, Message, Offset, Pid, TimeNs
from corral_schemas.exits import Exit
from corral_schemas.queries import Load
from corral_schemas.stdio import OpenEnded, StreamName


class EventHeader(Message, frozen=True, kw_only=True):
    """Second frame of an event: where it stands, and what it is about."""

    v: HeaderVersion = 1
    guest: Annotated[str, Meta(description="Guest it is about")]
    epoch: Annotated[str, Meta(description="Epoch of `seq`")]
    seq: Annotated[Count, Meta(description="Place in the guest's journal, rising by one")]
    prev: Annotated[Count, Meta(description="seq of the guest's previous event of this kind; 0 for the first")]
    worker: Annotated[str, Meta(description="Worker instance that recorded it, and published it first")] = ""
    time_ns: TimeNs
    kind: Annotated[str, Meta(description="What happened; decides the payload")]
    container: Annotated[str, Meta(description="Container it is about; empty: none")] = ""
    instance: Annotated[str, Meta(description="Container instance")] = ""
    process: Annotated[str, Meta(description="Process it is about: `init` or an exec id; empty: none")] = ""
    process_instance: Annotated[str, Meta(description="Process instance")] = ""


def mark_of(header: EventHeader) -> int:
    """What tells an event from another one that another history of its journal has under the same epoch and seq (see Place.mark)."""
    told = f"{header.time_ns}/{header.kind}/{header.instance}/{header.process_instance}"
    return zlib.crc32(told.encode()) or 1


class StdioHeader(Message, frozen=True, kw_only=True):
    """Second frame of a stdio message; the third is the bytes."""

    v: HeaderVersion = 1
    guest: Annotated[str, Meta(description="Guest of the process")]
    worker: Annotated[str, Meta(description="Worker instance that sent it")]
    container: Annotated[str, Meta(description="Container of the process")]
    instance: Annotated[str, Meta(description="Container instance")]
    process: Annotated[str, Meta(description="`init` or an exec id")]
    process_instance: Annotated[str, Meta(description="Process instance")]
    stream: StreamName
    offset: Annotated[Offset, Meta(description="Offset of the first byte; a jump means missing bytes: read_stdio has them")]
    crc: Crc32
    time_ns: TimeNs


class Created(Message, frozen=True, kw_only=True):
    """The container exists; init waits for start."""

    pid: Pid
    bundle: Annotated[str, Meta(description="Its OCI bundle directory in the guest")] = ""


class Started(Message, frozen=True, kw_only=True):
    """init runs."""

    pid: Pid


class ExecStarted(Message, frozen=True, kw_only=True):
    """An exec runs."""

    pid: Pid
    args: Annotated[list[str], Meta(description="Cut to what fits an event")] = []


class ExitEvent(Message, frozen=True, kw_only=True):
    """A process ended: exactly one for every started process."""

    exit: Annotated[Exit, Meta(description="How it ended")]


class StdioEnd(Message, frozen=True, kw_only=True):
    """A stream that was still open at its process's exit has ended; the exit itself has those that closed before."""

    stream: StreamName
    total: Offset
    crc: Crc32
    cut: Annotated[bool, Meta(description="It was cut off; see StreamEnd")] = False


class StdioGap(Message, frozen=True, kw_only=True):
    """Bytes of a stream are gone and will not be delivered."""

    stream: StreamName
    start: Offset
    end: Offset
    reason: Annotated[str, Meta(description="As in a Gap")]
    open_ended: OpenEnded = False


class Oom(Message, frozen=True, kw_only=True):
    """The out-of-memory killer was at work in the container."""

    kills: Annotated[Count, Meta(description="Processes killed in the container so far")]


class Paused(Message, frozen=True, kw_only=True):
    """All processes of the container are frozen."""


class Resumed(Message, frozen=True, kw_only=True):
    """They go on."""


class Updated(Message, frozen=True, kw_only=True):
    """Resources were changed."""

    resources: Annotated[dict[str, Any], Meta(description="As in the command; empty where they do not fit an event")] = {}


class Deleted(Message, frozen=True, kw_only=True):
    """The container is gone; exits and output stay for their retention time."""

    reason: Annotated[str, Meta(description="command, auto_delete, create_failed, or what drift was found")] = "command"
    warning: Annotated[str, Meta(description="What the runtime said though it did delete it: of a poststop hook that failed, say")] = ""


class StorageFull(Message, frozen=True, kw_only=True):
    """The guest's disk is full; output is lost (announced as gaps) or processes blocked."""

    path: Annotated[str, Meta(description="Directory on that disk")] = ""


class StorageOk(Message, frozen=True, kw_only=True):
    """There is space again."""

    path: Annotated[str, Meta(description="Directory on that disk")] = ""


class JournalReset(Message, frozen=True, kw_only=True):
    """First event of a new epoch: earlier places are void, take a fresh snapshot."""

    reason: Annotated[str, Meta(description="Why the journal began anew, for a person to read")]
    previous_epoch: Annotated[str, Meta(description="Epoch before; empty: unknown")] = ""
    previous_seq: Annotated[Count, Meta(description="Last seq known of it")] = 0


class WorkerStarted(Message, frozen=True, kw_only=True):
    """A worker took over the guest."""

    version: Annotated[str, Meta(description="Corral version of the worker")] = ""
    adopted: Annotated[Count, Meta(description="Containers found running and taken on")] = 0
    lost: Annotated[Count, Meta(description="Processes that got `lost` because nothing is known of their end")] = 0


class GuestUp(Message, frozen=True, kw_only=True):
    """From a broker: the guest registered. `prev` is the previous one about this guest."""

    labels: Annotated[dict[str, str], Meta(description="Labels of the guest")] = {}
    epoch: Annotated[str, Meta(description="Epoch of the guest's journal")] = ""
    seq: Annotated[Count, Meta(description="Its newest seq")] = 0


class GuestDown(Message, frozen=True, kw_only=True):
    """From a broker: it left, or was not heard. `prev` is the previous one about this guest."""

    reason: Annotated[str, Meta(description="Why, for a person to read")]


class BrokerStarted(Message, frozen=True, kw_only=True):
    """From a broker, about itself: it began to serve. Recorded and not published: `replay` with an empty guest gives it."""

    version: Annotated[str, Meta(description="Corral version of the broker")] = ""
    previous: Annotated[Literal["", "stopped", "died"], Meta(description="How the one before ended; empty: none is known")] = ""
    alive_ns: Annotated[TimeNs, Meta(description="When the one before was last known to live; 0: unknown")] = 0
    boot: Annotated[str, Meta(description="Id of the boot of its machine; empty: unknown")] = ""


class BrokerStopped(Message, frozen=True, kw_only=True):
    """From a broker, about itself: it was told to end. Recorded and not published: `replay` with an empty guest gives it."""


class Beacon(Message, frozen=True, kw_only=True):
    """From a broker: a guest's heartbeat. Not journaled; its header's seq is the guest's newest and prev is 0."""

    mark: Mark = 0
    last_seq_by_kind: Annotated[dict[str, int], Meta(description="Event kind → seq of the newest event of it")] = {}
    load: Annotated[Load, Meta(description="How busy the guest is")] = Load()


EVENT_KINDS: dict[str, type[Message]] = {
    "created": Created,
    "started": Started,
    "exec_started": ExecStarted,
    "exit": ExitEvent,
    "stdio_end": StdioEnd,
    "stdio_gap": StdioGap,
    "oom": Oom,
    "paused": Paused,
    "resumed": Resumed,
    "updated": Updated,
    "deleted": Deleted,
    "storage_full": StorageFull,
    "storage_ok": StorageOk,
    "journal_reset": JournalReset,
    "worker_started": WorkerStarted,
    "guest_up": GuestUp,
    "guest_down": GuestDown,
    "broker_started": BrokerStarted,
    "broker_stopped": BrokerStopped,
    "beacon": Beacon,
}
"""kind → the Struct of its payload. The last five come from brokers, the others from a guest's journal."""
BROKER_KINDS = frozenset({"guest_up", "guest_down", "broker_started", "broker_stopped", "beacon"})
RECORDED_KINDS = frozenset({"broker_started", "broker_stopped"})
"""Of those, the ones that are never published."""
