"""Full golden samples of commands, replies and sessions: every field of each message is set to something else than its default."""

from corral_schemas import commands, frames, queries, session, stdio
from corral_schemas.base import Message
from corral_schemas.containers import ContainerProcessState, ContainerSpec, ContainerState, ContainerStats, Mount, OciProcess, ProcessInfo
from corral_schemas.cursor import Place
from corral_schemas.errors import WireError
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.queries import GuestInfo, Load

CONTAINER = "01k9vw3f6eq5t8m2hxj7r4c0aa"
INIT = "01k9vw3f6eq5t8m2hxj7r4c0ab"
EXEC = "01k9vw3f6fq5t8m2hxj7r4c0ac"
WORKER = "01k9vw2zzzq5t8m2hxj7r4c0ad"
BROKER = "01k9vw2yyyq5t8m2hxj7r4c0ae"
EPOCH = "5f1d8a90c3b27e64"
NOW = 1_763_900_000_123_456_789
PLACE = Place(epoch=EPOCH, seq=42)
CRC_HELLO = 0x363A3020  # zlib.crc32(b"hello\n")
EXITED = Exit(
    type="exited",
    code=7,
    oom_seen=True,
    started_ns=NOW,
    exited_ns=NOW + 5_000_000,
    user_us=1_200,
    system_us=800,
    max_rss_kib=1_024,
    streams={
        "stdout": StreamEnd(state="closed", total=6, crc=CRC_HELLO),
        "stderr": StreamEnd(state="open", total=0, crc=0),
    },
)
SIGNALLED = Exit(type="signalled", signal=11, core=True, started_ns=NOW, exited_ns=NOW + 1)
START_FAILED = Exit(type="start_failed", reason='command_not_found: exec: "/no/such": stat /no/such: no such file or directory')
LOST = Exit(type="lost", reason="shim died", started_ns=NOW)
LOAD = Load(containers=3, running=2, runtime_calls=1, queued=4)
ERROR = WireError(
    code="container_not_found",
    hresult=-1070137074,
    message="no container `wbe` at `vm-1`",
    details={"nearest": ["web"]},
)
OPTIONS = stdio.StdioOptions(
    tty=True, stdin=True, rows=50, columns=132, cap_bytes=1 << 20, policy="block", consumer="archiver", lease_ms=5_000
)
SPEC = ContainerSpec(
    rootfs="/srv/rootfs/busybox",
    args=["sh", "-c", "echo hello"],
    env=["MODE=test"],
    cwd="/tmp",
    user="1000:1000",
    mounts=[Mount(source="/srv/data", destination="/data", readonly=True)],
    memory_bytes=64 << 20,
    cpus=0.5,
    pids_limit=100,
    network="host",
    writable=True,
    hostname="web-1",
)
PROCESS_INFO = ProcessInfo(
    process="init",
    instance=INIT,
    pid=4242,
    tty=True,
    args=["sleep", "60"],
    started_ns=NOW,
    exit=EXITED,
    blocked_since_ns=NOW,
)
STATE = ContainerState(
    oci_version="1.0.2",
    id="web",
    pid=4242,
    bundle_path="/srv/bundles/web",
    rootfs_path="/srv/bundles/web/rootfs",
    status="running",
    created="2025-11-23T12:13:20.123456789Z",
    instance=CONTAINER,
    guest="vm-1",
    auto_delete=True,
    processes=[PROCESS_INFO],
)
STATS = ContainerStats(
    time_ns=NOW,
    cpu_ns=1_500_000,
    memory_bytes=2 << 20,
    memory_limit_bytes=64 << 20,
    memory_max_usage_bytes=3 << 20,
    pids=2,
    pids_limit=100,
    oom_kills=1,
    stdout_bytes=6,
    stderr_bytes=9,
)
GUEST = GuestInfo(
    guest="vm-1",
    up=True,
    worker=WORKER,
    epoch=EPOCH,
    seq=42,
    mark=0x5EA1,
    labels={"zone": "a"},
    version="0.1.0",
    protocol=2,
    runtime="runc 1.1.5",
    load=LOAD,
    since_ns=NOW,
    heard_ms=120,
    in_flight=3,
    reason="said goodbye: upgrade",
    warnings=["its clock is 90 s behind the broker's"],
)
_ONE = {"container": "web", "instance": CONTAINER}
_PROCESS = {**_ONE, "process": "shell", "process_instance": EXEC}

HEADERS: list[Message] = [
    frames.CommandHeader(
        id="c1-17", guest="vm-1", op="state", timeout_ms=30_000, age_ms=1_250, epoch=EPOCH, trace="job 12", shared="push-7"
    ),
    frames.ReplyHeader(id="c1-17", guest="vm-1", epoch=EPOCH),
]
SESSION: list[Message] = [
    session.Register(
        guest="vm-1",
        worker=WORKER,
        role="bulk",
        epoch=EPOCH,
        seq=42,
        mark=0x5EA1,
        last_seq_by_kind={"exit": 40, "deleted": 42},
        labels={"zone": "a"},
        version="0.1.0",
        runtime="runc 1.1.5",
        load=LOAD,
        token="c4k7-one-time",
        time_ns=NOW,
    ),
    session.Registered(broker=BROKER, heartbeat_ms=5_000, seen=PLACE, stdio_prefixes=[b"stdio/vm-1/web/"]),
    session.Refused(code="guest_busy", message="another worker of `vm-1` is alive"),
    session.PleaseRegister(),
    session.Heartbeat(epoch=EPOCH, seq=42, mark=0x5EA1, last_seq_by_kind={"exit": 40}, load=LOAD, stdio_hash=0x1234ABCD, time_ns=NOW),
    session.HeartbeatAck(stdio_prefixes=[b"stdio/vm-1/"]),
    session.Goodbye(reason="upgrade"),
]
COMMANDS: list[Message] = [
    commands.ContainerTarget(**_ONE),
    commands.CreateArgs(container="web", bundle="/srv/bundles/web", spec=SPEC, stdio=OPTIONS),
    commands.CreateReply(container="web", instance=CONTAINER, process_instance=INIT, pid=4242, place=PLACE, exit=EXITED),
    commands.RunArgs(container="web", bundle="/srv/bundles/web", spec=SPEC, stdio=OPTIONS, auto_delete=True),
    commands.StartReply(pid=4242, started_ns=NOW),
    commands.ExecArgs(
        container="web",
        instance=CONTAINER,
        process="shell",
        spec=OciProcess(args=["sh"], env=["A=1"], cwd="/", user="0", oci={"noNewPrivileges": True}),
        stdio=OPTIONS,
        ignore_paused=True,
    ),
    commands.ExecReply(
        container="web",
        instance=CONTAINER,
        process="shell",
        process_instance=EXEC,
        pid=4250,
        started_ns=NOW,
        place=PLACE,
        exit=EXITED,
    ),
    commands.KillArgs(container="web", instance=CONTAINER, process="shell", process_instance=EXEC, signal=9, all=True),
    commands.KillReply(outcome="delivered"),
    commands.StopArgs(container="web", instance=CONTAINER, signal=2, grace_ms=3_000),
    commands.StopReply(exit=EXITED),
    commands.UpdateArgs(container="web", instance=CONTAINER, resources={"memory": {"limit": 128 << 20}}),
    commands.DeleteArgs(container="web", instance=CONTAINER, process="shell", force=True),
    commands.CancelArgs(id="c1-17", epoch=EPOCH, age_ms=1_250),
    commands.CancelReply(outcome="too_late"),
]
STDIO: list[Message] = [
    stdio.Done(),
    stdio.ReadStdioArgs(
        container="web",
        instance=CONTAINER,
        process="shell",
        process_instance=EXEC,
        stdout=6,
        stderr=0,
        wait_ms=20_000,
        max_bytes=65_536,
        tail_lines=10,
        since_ns=NOW,
        consumer="archiver",
    ),
    stdio.ReadStdioReply(
        process_instance=INIT,
        instance=CONTAINER,
        chunks=[stdio.Chunk(stream="stdout", offset=0, time_ns=NOW, crc_before=0, crc=CRC_HELLO, data=b"hello\n")],
        gaps=[stdio.Gap(stream="stderr", start=0, end=4_096, reason="cap")],
        next={"stdout": 6, "stderr": 4_096},
        ends={"stdout": StreamEnd(state="closed", total=6, crc=CRC_HELLO)},
        exit=EXITED,
    ),
    stdio.WriteStdinArgs(
        container="web", instance=CONTAINER, process="shell", process_instance=EXEC, offset=6, writer="writer-1", data=b"ls -l\n"
    ),
    stdio.WriteStdinReply(offset=12),
    stdio.CloseStdinArgs(container="web", instance=CONTAINER, process="shell", process_instance=EXEC, offset=12, writer="writer-1"),
    stdio.ResizeArgs(container="web", instance=CONTAINER, process="shell", process_instance=EXEC, rows=50, columns=132),
]
QUERIES: list[Message] = [
    queries.Nothing(),
    queries.StateReply(state=STATE, place=PLACE),
    queries.ListArgs(),
    queries.ListReply(containers=[STATE], place=PLACE),
    queries.PsArgs(container="web", instance=CONTAINER, all=True),
    queries.PsReply(
        processes=[ContainerProcessState(pid=4242, command=["sleep", "60"], created_by_runtime=True, is_zombie=True, process="init")]
    ),
    queries.ContainerStatsReply(stats=STATS),
    queries.WaitArgs(**_PROCESS, timeout_ms=20_000),
    queries.WaitReply(exit=EXITED, process_instance=INIT),
    queries.ReplayArgs(epoch=EPOCH, after=40, mark=0x5EA1, kinds=["exit", "deleted"], limit=100, wait_ms=5_000),
    queries.ResultArgs(id="c1-17"),
    queries.ResultReply(state="done", op="create", ok={"pid": 4242}, error=ERROR),
    queries.InfoReply(
        kind="worker",
        version="0.1.0",
        protocol=1,
        instance=WORKER,
        guest="vm-1",
        epoch=EPOCH,
        seq=42,
        mark=0x5EA1,
        started_ns=NOW,
        limits={"FRAME_BYTES_MAX": 8_388_608},
        counters={"commands": 17, "refused.bad_request": 1},
        about={"runtime": "runc 1.1.5", "cgroup": "v2"},
    ),
    queries.ForgetGuestsArgs(guests=["vm-7", "vm-8"]),
    queries.ForgetGuestsReply(forgotten=["vm-7"], unknown=["vm-8"]),
    queries.GuestsReply(guests=[GUEST], place=Place(epoch="b7", seq=3)),
    queries.HelloReply(
        version="0.1.0",
        protocol=1,
        instance=BROKER,
        workers="7701",
        events_in="7702",
        events_out="7703",
        stdio_in="7704",
        stdio_out="7705",
        heartbeat_ms=5_000,
        shares_args=True,
        rate_per_s=4_000,
    ),
]
