"""How a process ended. Unknown is a value: `lost` is never shown as a success."""

import signal as signals
from typing import Annotated, Literal

from msgspec import Meta

from corral_schemas.base import Count, Crc32, Message, Offset, TimeNs


class StreamEnd(Message, frozen=True, kw_only=True):
    """Where one output stream stood when its process's exit was recorded."""

    state: Annotated[Literal["closed", "open"], Meta(description="`open`: a descendant still holds it; `stdio_end` follows later")]
    total: Annotated[Offset, Meta(description="Bytes of the stream so far; its final size when closed")]
    crc: Crc32
    cut: Annotated[
        bool, Meta(description="It was cut off (a power cut, a dead shim): `total` is as far as it is known to have gone, `crc` may be 0")
    ] = False


class Exit(Message, frozen=True, kw_only=True):
    """The one end every started process gets."""

    type: Annotated[Literal["exited", "signalled", "start_failed", "lost"], Meta(description="Which of the four ends it is")]
    code: Annotated[int | None, Meta(description="Exit code 0-255, with `exited`")] = None
    signal: Annotated[int | None, Meta(description="Signal number, with `signalled`")] = None
    reason: Annotated[str, Meta(description="Why, with `start_failed` (an error code, a colon, the text) and `lost`")] = ""
    core: Annotated[bool, Meta(description="A core was dumped, with `signalled`")] = False
    oom_seen: Annotated[bool, Meta(description="The out-of-memory killer was seen in the container by then")] = False
    started_ns: TimeNs = 0
    exited_ns: TimeNs = 0
    user_us: Annotated[Count, Meta(description="Processor time in user mode, microseconds")] = 0
    system_us: Annotated[Count, Meta(description="Processor time in kernel mode, microseconds")] = 0
    max_rss_kib: Annotated[Count, Meta(description="Largest resident set, KiB")] = 0
    streams: Annotated[dict[str, StreamEnd], Meta(description="`stdout`, `stderr` → where each stood")] = {}


def shell_status(end: Exit) -> int:
    """What a shell would show: the code, 128+signal, 127 or 126 for a failed start, 125 for anything of Corral's own (lost too)."""
    if end.type == "exited" and end.code is not None:
        return end.code
    if end.type == "signalled" and end.signal is not None:
        return 128 + end.signal
    if end.type == "start_failed":
        return start_failure_status(end.reason.partition(":")[0])
    return 125


def start_failure_status(code: str) -> int:
    """127 not found, 126 not executable, 125 any other error code."""
    return {"command_not_found": 127, "command_not_executable": 126}.get(code, 125)


def describe(end: Exit) -> str:
    """One short phrase for tables: `exited 7`, `killed by SIGKILL`, `lost: shim died`."""
    if end.type == "exited":
        text = f"exited {end.code}"
    elif end.type == "signalled":
        names = {int(s): s.name for s in signals.Signals}
        text = f"killed by {names.get(end.signal or 0, f'signal {end.signal}')}"
    else:
        text = f"{end.type.replace('_', ' ')}: {end.reason}"
    return f"{text} (out of memory)" if end.oom_seen else text
