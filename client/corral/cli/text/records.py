"""What several commands print as JSON: a line of output, and how a process ended."""

import base64
from typing import TYPE_CHECKING

from corral.cli.text.lines import Line
from corral.cli.text.targets import path_of

if TYPE_CHECKING:
    from corral.cli.text.output import Record
    from corral.process import Process
    from corral_schemas.exits import Exit


def line_record(process: "Process", stream: str, line: Line) -> "Record":
    """One line, as `text` with its line break, or as `base64` where it is not UTF-8."""
    try:
        content = {"text": line.data.decode()}
    except UnicodeDecodeError:
        content = {"base64": base64.b64encode(line.data).decode()}
    path = path_of(process.container, process.process)
    return {"path": path, "stream": stream, "offset": line.offset, "time_ns": line.time_ns, **content}


def end_record(process: "Process", end: "Exit") -> "Record":
    """`status` is the shell's view of it, None where how it ended is lost."""
    from corral import shell_status
    from corral.cli.text.output import as_record

    return {
        "path": path_of(process.container, process.process),
        "guest": process.container.guest,
        "container": process.container.name,
        "process": process.process,
        "status": None if end.type == "lost" else shell_status(end),
        "exit": as_record(end),
    }
