"""Messages as they occur, for the documents: the full samples also set what excludes each other, and show no such thing."""

import zlib

import msgspec

from corral_schemas import bundles, commands, containers, events, frames, queries, session, stdio
from corral_schemas.base import Message
from corral_schemas.cursor import Place
from corral_schemas.events import mark_of
from schemas.golden_bundles import BUNDLE, CONTENT, CRC, HELLO, IMAGE
from schemas.golden_exchanges import END, END_HEADER, REPLAYED, STARTED_HEADER, WHOLE
from schemas.golden_samples import CONTAINER, EPOCH, EXEC, GUEST, INIT, LOAD, NOW, OPTIONS, SPEC, STATE, WORKER

MARK = mark_of(END_HEADER)
HERE = Place(epoch=EPOCH, seq=42, mark=MARK)
RUNNING = msgspec.structs.replace(
    STATE, processes=[containers.ProcessInfo(process="init", instance=INIT, pid=4242, args=["sleep", "60"], started_ns=NOW)]
)
MOTD = bundles.BundleEntry(path="etc/motd", mode=0o644, uid=1000, gid=100, mtime_ns=NOW, size=6, chunks=bytes.fromhex(CONTENT[7:]))
_BY_KIND = {"started": 41, "exit": 42}

_ALL: list[Message] = [
    frames.CommandHeader(id="c1-17", guest="vm-1", op="state", timeout_ms=30_000, age_ms=1_250, epoch=EPOCH, trace="job 12"),
    commands.CreateArgs(container="web", bundle="/srv/bundles/web", stdio=OPTIONS),
    commands.RunArgs(container="web", spec=SPEC, stdio=stdio.StdioOptions(stdin=True), auto_delete=True),
    commands.KillArgs(container="web", instance=CONTAINER, process="shell", process_instance=EXEC, signal=9),
    stdio.ReadStdioArgs(container="web", instance=CONTAINER, process="shell", process_instance=EXEC, stdout=6, stderr=0, wait_ms=20_000),
    stdio.ReadStdioReply(
        process_instance=EXEC,
        chunks=[stdio.Chunk(stream="stdout", offset=6, time_ns=NOW, crc_before=CRC, crc=zlib.crc32(HELLO + HELLO), data=HELLO)],
        gaps=[stdio.Gap(stream="stderr", start=0, end=4_096, reason="cap")],
        next={"stdout": 12, "stderr": 4_096},
    ),
    queries.StateReply(state=RUNNING, place=HERE),
    queries.ListReply(containers=[RUNNING], place=HERE),
    queries.PsReply(
        processes=[containers.ContainerProcessState(pid=4242, command=["sleep", "60"], created_by_runtime=True, process="init")]
    ),
    queries.ReplayArgs(epoch=EPOCH, after=41, mark=mark_of(STARTED_HEADER), kinds=["exit", "deleted"], wait_ms=5_000),
    REPLAYED,
    queries.ResultReply(state="done", op="start", ok={"pid": 4242, "started_ns": NOW}),
    queries.InfoReply(
        kind="worker",
        version="0.1.0",
        protocol=1,
        instance=WORKER,
        guest="vm-1",
        epoch=EPOCH,
        seq=42,
        mark=MARK,
        started_ns=NOW,
        limits={"FRAME_BYTES_MAX": 8_388_608},
        counters={"commands": 17},
        about={"runtime": "runc 1.1.5"},
    ),
    queries.GuestsReply(
        guests=[msgspec.structs.replace(GUEST, mark=MARK, protocol=1, reason="", warnings=[])], place=Place(epoch="c9d0e1f2a3b4c5d6", seq=3)
    ),
    bundles.UploadArgs(content=CONTENT, data=HELLO, crc=CRC),
    bundles.UploadReply(offset=6),
    bundles.OpenBundleReply(state="incoming", missing=b"\x05", missing_bytes=4_096),
    bundles.InspectBundleReply(bundle=BUNDLE, image=IMAGE, rootfs_path="/var/lib/corral/vm-1/bundles/5f/rootfs", entries=[MOTD]),
    events.ExitEvent(exit=msgspec.structs.replace(END, user_us=1_200, system_us=800, max_rss_kib=1_024)),
    events.StdioEnd(stream="stdout", total=WHOLE.total, crc=WHOLE.crc),
    events.JournalReset(reason="journal set back", previous_epoch="0a1b2c3d4e5f6071", previous_seq=99),
    events.Beacon(mark=MARK, last_seq_by_kind=_BY_KIND, load=LOAD),
    session.Register(
        guest="vm-1",
        worker=WORKER,
        epoch=EPOCH,
        seq=42,
        mark=MARK,
        last_seq_by_kind=_BY_KIND,
        labels={"zone": "a"},
        version="0.1.0",
        runtime="runc 1.1.5",
        load=LOAD,
        time_ns=NOW,
    ),
    session.Registered(broker="01k9vw2yyyq5t8m2hxj7r4c0ae", heartbeat_ms=5_000, seen=HERE, stdio_prefixes=[b"stdio/vm-1/web/"]),
    session.Heartbeat(epoch=EPOCH, seq=42, mark=MARK, last_seq_by_kind=_BY_KIND, load=LOAD, time_ns=NOW),
]
EXAMPLES: dict[str, Message] = {type(one).__name__: one for one in _ALL}
"""Message name → its golden sample `example`, which the documents show in place of `full`."""
