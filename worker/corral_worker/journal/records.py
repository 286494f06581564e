"""What the journal keeps. Each record is stored whole under its key: writing it again replaces it."""

from typing import Literal

import msgspec

from corral_schemas.exits import Exit, StreamEnd

Status = Literal["creating", "created", "running", "paused", "stopped", "deleted"]


class ProcessRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One process that Corral started (or is about to); key: instance."""

    instance: str
    id: str
    container: str
    """Container instance."""
    container_name: str
    tty: bool = False
    stdin: bool = False
    args: list[str] = []
    policy: Literal["drop", "block"] = "drop"
    consumer: str = ""
    pid: int = 0
    started_ns: int = 0
    exit: Exit | None = None
    ends: dict[str, StreamEnd] = {}
    """Stream → its end, once closed."""
    blocked_since_ns: int | None = None
    freed: bool = False
    """Its id may be used again."""
    init: bool = False
    boot: str = ""
    """The guest's boot id when it was started: what it wrote before another boot may be torn."""
    read_to: dict[str, int] = {}
    """Stream → how far readers have had it, saved now and then while it has not ended: after a power cut, it went at least so far."""
    gaps_told: dict[str, tuple[int, int]] = {}
    """Stream → (number, end) of the shim's newest notice of a gap that became an event: a repeated one does not."""


class ContainerRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One container; key: instance."""

    instance: str
    name: str
    status: Status
    init: str
    """Instance of its first process."""
    bundle_path: str = ""
    rootfs_path: str = ""
    oci_version: str = ""
    created_ns: int = 0
    started: bool = False
    """start took effect: tells created from running after a pause."""
    auto_delete: bool = False
    deleted_ns: int = 0
    """When it was deleted, in worker time (Journal.worker_ms); 0 while it is there."""
    oom_kills: int = 0
    noticed: int = 0
    """Number of the shim's newest notice about storage that became an event."""
    buried: bool = False
    """Its shim died, or the guest rebooted: that the runtime no longer has it says nothing."""


class RequestRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One state-changing command; key: request id."""

    id: str
    op: str
    digest: bytes
    """Of op and arguments; empty for a tombstone left by cancel."""
    args: bytes = b""
    """The arguments as received, until it is done: what a restarted worker goes on from."""
    instance: str = ""
    """Container instance it made or acts on."""
    process_instance: str = ""
    deadline_ms: int = 0
    """In worker time."""
    recorded_ms: int = 0
    """In worker time."""
    cancelled: bool = False
    """Given up before it took effect: whoever goes on with it ends it."""
    reply: bytes = b""
    """The body frame of its reply, once done."""

    @property
    def done(self) -> bool:
        return bool(self.reply)


class EventRecord(msgspec.Struct, kw_only=True):
    """One event; key: seq."""

    seq: int
    kind: str
    time_ns: int
    topic: bytes
    header: bytes
    payload: bytes
    mark: int = 0
    """Of its header (see mark_of); not stored."""


Record = ProcessRecord | ContainerRecord | RequestRecord | EventRecord
