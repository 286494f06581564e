"""What golden samples of events and stdio headers are made from, and further samples that show more than one shape of a message."""

from corral_schemas import commands, events, frames, queries, session
from corral_schemas.base import Message
from corral_schemas.events import EventHeader, StdioHeader
from corral_schemas.topics import event_topic
from schemas.golden_bundles import BUNDLES, RUN_OF_AN_IMAGE
from schemas.golden_samples import (
    COMMANDS,
    CONTAINER,
    CRC_HELLO,
    EPOCH,
    ERROR,
    EXEC,
    EXITED,
    HEADERS,
    INIT,
    LOAD,
    LOST,
    NOW,
    QUERIES,
    SESSION,
    SIGNALLED,
    START_FAILED,
    STDIO,
    WORKER,
)

EVENT_HEADER = EventHeader(
    guest="vm-1",
    epoch=EPOCH,
    seq=42,
    prev=40,
    worker=WORKER,
    time_ns=NOW,
    kind="exit",
    container="web",
    instance=CONTAINER,
    process="shell",
    process_instance=EXEC,
)
STDIO_HEADER = StdioHeader(
    guest="vm-1",
    worker=WORKER,
    container="web",
    instance=CONTAINER,
    process="init",
    process_instance=INIT,
    stream="stdout",
    offset=0,
    crc=CRC_HELLO,
    time_ns=NOW,
)
EXIT_EVENT = events.ExitEvent(exit=EXITED)
EVENT_TOPIC = event_topic("vm-1", "exit", "web", "shell")
REPLAY_REPLY = queries.ReplayReply(
    epoch=EPOCH,
    events=[(frames.pack(EVENT_HEADER), frames.pack(EXIT_EVENT))],
    upto=42,
    last_seq=43,
    durable=False,
)
EVENTS: list[Message] = [
    EVENT_HEADER,
    STDIO_HEADER,
    events.Created(pid=4242, bundle="/srv/bundles/web"),
    events.Started(pid=4242),
    events.ExecStarted(pid=4250, args=["sh"]),
    EXIT_EVENT,
    events.StdioEnd(stream="stdout", total=6, crc=CRC_HELLO, cut=True),
    events.StdioGap(stream="stderr", start=0, end=4_096, reason="power_cut", open_ended=True),
    events.Oom(kills=1),
    events.Paused(),
    events.Resumed(),
    events.Updated(resources={"memory": {"limit": 128 << 20}}),
    events.Deleted(reason="auto_delete", warning="error running poststop hook #0: exit status 7"),
    events.StorageFull(path="/var/lib/corral/vm-1"),
    events.StorageOk(path="/var/lib/corral/vm-1"),
    events.JournalReset(reason="rewound", previous_epoch="0a1b2c3d4e5f6071", previous_seq=99),
    events.WorkerStarted(version="0.1.0", adopted=3, lost=1),
    events.GuestUp(labels={"zone": "a"}, epoch=EPOCH, seq=42),
    events.GuestDown(reason="silent for 15 s"),
    events.BrokerStarted(version="0.1.0", previous="died", alive_ns=NOW, boot="0d2d6f0c-7d9e-4c53-8a51-4c2f6e1b7a90"),
    events.BrokerStopped(),
    events.Beacon(mark=0x5EA1, last_seq_by_kind={"exit": 40, "deleted": 42}, load=LOAD),
]
FULL: dict[str, Message] = {
    type(one).__name__: one for one in [*HEADERS, *SESSION, *COMMANDS, *STDIO, *QUERIES, *BUNDLES, *EVENTS, REPLAY_REPLY]
}
"""Message name → the instance with every field set. ReplyBody is not here: it has one of two fields, never both."""

MORE: dict[str, dict[str, Message]] = {
    "ExitEvent": {
        "signalled": events.ExitEvent(exit=SIGNALLED),
        "start_failed": events.ExitEvent(exit=START_FAILED),
        "lost": events.ExitEvent(exit=LOST),
    },
    "ResultReply": {
        "failed": queries.ResultReply(state="done", op="state", error=ERROR),
        "running": queries.ResultReply(state="running", op="stop"),
        "unknown": queries.ResultReply(state="unknown"),
    },
    "KillReply": {"already_exited": commands.KillReply(outcome="already_exited")},
    "RunArgs": {"of_an_image": RUN_OF_AN_IMAGE},
    "HeartbeatAck": {"no_subscriptions": session.HeartbeatAck(stdio_prefixes=[])},
}
REPLY_BODIES = {"full": {"error": ERROR}, "ok": {"ok": {"pid": 4242, "started_ns": NOW}}, "ok_empty": {"ok": {}}}
