"""Standard streams: how a process gets them, and the commands that read, write, close and resize them."""

from typing import Annotated, Literal

from msgspec import Meta

from corral_schemas.base import (
    ContainerName,
    Count,
    Crc32,
    Instance,
    Message,
    Offset,
    PinnedInstance,
    ProcessName,
    TimeNs,
)
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.limits import (
    BLOCK_LEASE_S,
    LONG_POLL_S_MAX,
    READ_STDIO_BYTES_MAX,
    SPOOL_BYTES_PER_PROCESS,
    SPOOL_BYTES_PER_PROCESS_MIN,
    STDIO_CHUNK_BYTES_MAX,
    TIMEOUT_S_MAX,
)
from corral_schemas.names import INIT

StreamName = Annotated[Literal["stdout", "stderr"], Meta(description="A process with a tty has only `stdout`")]
Rows = Annotated[int, Meta(ge=0, le=65_535, description="Terminal height in characters")]
StdinWriter = Annotated[
    str,
    Meta(
        max_length=64,
        description="Chosen by the writer: each has offsets to itself; empty: the offsets of all writers together",
    ),
]
Columns = Annotated[int, Meta(ge=0, le=65_535, description="Terminal width in characters")]


class StdioOptions(Message, frozen=True, kw_only=True):
    """How a process gets its standard streams."""

    tty: Annotated[bool, Meta(description="A pseudo-terminal instead of pipes; stdout and stderr are one stream then")] = False
    stdin: Annotated[bool, Meta(description="Keep stdin open for write_stdin; otherwise it is /dev/null")] = False
    rows: Rows = 24
    columns: Columns = 80
    cap_bytes: Annotated[int, Meta(ge=SPOOL_BYTES_PER_PROCESS_MIN, description="Output kept of this process")] = SPOOL_BYTES_PER_PROCESS
    policy: Annotated[
        Literal["drop", "block"],
        Meta(description="At the cap: `drop` the oldest output (announced as a gap), or `block` the process until the consumer has read"),
    ] = "drop"
    consumer: Annotated[str, Meta(description="With `block`: the name the one consumer gives in read_stdio")] = ""
    lease_ms: Annotated[
        int, Meta(ge=1_000, le=TIMEOUT_S_MAX * 1000, description="With `block`: silence of the consumer after which `drop` applies")
    ] = int(BLOCK_LEASE_S * 1000)


class ProcessTarget(Message, frozen=True, kw_only=True):
    """Names one process of one container."""

    container: ContainerName
    instance: PinnedInstance = ""
    process: ProcessName = INIT
    process_instance: PinnedInstance = ""


class Chunk(Message, frozen=True, kw_only=True):
    """A run of bytes of one stream."""

    stream: StreamName
    offset: Annotated[Offset, Meta(description="Offset of the first byte")]
    time_ns: TimeNs
    crc_before: Annotated[int, Meta(ge=0, lt=1 << 32, description="CRC-32 of the stream before these bytes")]
    crc: Crc32
    data: Annotated[bytes, Meta(description="The bytes", max_length=STDIO_CHUNK_BYTES_MAX)]


OpenEnded = Annotated[
    bool, Meta(description="The stream was cut off: what else it held beyond `end`, nobody knows; `start` may be `end` then")
]


class Gap(Message, frozen=True, kw_only=True):
    """Bytes that are not there (any more), said explicitly."""

    stream: StreamName
    start: Annotated[Offset, Meta(description="First missing offset")]
    end: Annotated[Offset, Meta(description="First offset after the missing bytes")]
    reason: Annotated[
        str, Meta(description="cap, disk_full, io_error, segment_missing, corrupt, power_cut, shim_died, or missing: nothing says why")
    ]
    open_ended: OpenEnded = False

    def __str__(self) -> str:
        """`12 bytes of stdout are missing (cap)`"""
        if not self.open_ended:
            return f"{self.end - self.start} bytes of {self.stream} are missing ({self.reason})"
        more = f"at least {self.end - self.start} bytes" if self.end > self.start else "it is not known how many bytes"
        return f"{self.stream} is cut off at byte {self.start}: {more} of it are missing ({self.reason})"


class ReadStdioArgs(ProcessTarget, frozen=True, kw_only=True):
    """Reads output from offsets on; answered as soon as there is a byte, an end or the exit, or after wait_ms."""

    stdout: Annotated[Count | None, Meta(description="Read stdout from this offset; left out: not wanted")] = None
    stderr: Annotated[Count | None, Meta(description="Read stderr from this offset; left out: not wanted")] = None
    wait_ms: Annotated[int, Meta(ge=0, le=int(LONG_POLL_S_MAX * 1000), description="How long to wait for something new")] = 0
    max_bytes: Annotated[
        int, Meta(description="Most bytes in the reply, of all streams together, in the order written", ge=1, le=READ_STDIO_BYTES_MAX)
    ] = STDIO_CHUNK_BYTES_MAX
    tail_lines: Annotated[
        Count | None, Meta(description="Begin so many lines, of the chosen streams together, before the end; the offsets are not looked at")
    ] = None
    since_ns: Annotated[
        Count | None, Meta(description="Begin with output written at or after this time; the offsets are not looked at")
    ] = None
    consumer: Annotated[str, Meta(description="Name of the `block` consumer: all before the offsets is acknowledged")] = ""


class ReadStdioReply(Message, frozen=True, kw_only=True):
    """What there is from those offsets on. Chunks and gaps of one stream are contiguous with the offsets asked for."""

    process_instance: Instance
    instance: Annotated[str, Meta(description="Instance of its container; with it later reads mean the same one")] = ""
    chunks: Annotated[list[Chunk], Meta(description="Bytes, in the order in which they were written")] = []
    gaps: Annotated[list[Gap], Meta(description="Bytes that are missing")] = []
    next: Annotated[dict[str, int], Meta(description="Stream → offset to ask for next")]
    ends: Annotated[dict[str, StreamEnd], Meta(description="Stream → its end, once it is closed")] = {}
    exit: Annotated[Exit | None, Meta(description="The process's exit, once recorded")] = None


class WriteStdinArgs(ProcessTarget, frozen=True, kw_only=True):
    """Writes stdin bytes exactly once: bytes below the offset already taken are skipped, bytes beyond it refused."""

    offset: Annotated[Offset, Meta(description="Offset of data's first byte in all that this writer writes to this stdin")]
    writer: StdinWriter = ""
    data: Annotated[bytes, Meta(description="The bytes", max_length=STDIO_CHUNK_BYTES_MAX)]


class WriteStdinReply(Message, frozen=True, kw_only=True):
    offset: Annotated[Offset, Meta(description="Bytes taken from this writer so far; its next write begins here")]


class CloseStdinArgs(ProcessTarget, frozen=True, kw_only=True):
    """Ends stdin after the bytes taken so far."""

    offset: Annotated[Count | None, Meta(description="Bytes that this writer has written; more than were taken is bad_request")] = None
    writer: StdinWriter = ""


class ResizeArgs(ProcessTarget, frozen=True, kw_only=True):
    """Sets the terminal's size; the process gets SIGWINCH."""

    rows: Rows
    columns: Columns


class Done(Message, frozen=True, kw_only=True):
    """The reply of a command that has nothing else to say."""
