"""One file per topic; each has the rows of one table."""

from kit.bench import Row
from rows import (
    batch,
    broker,
    bundles,
    command_line,
    curve,
    events,
    execs,
    flood,
    growth,
    lifecycle,
    memory,
    messaging,
    peers,
    stalled,
    stdio,
    vms,
    writes,
)

TOPICS: dict[str, dict[str, Row]] = {
    "lifecycle": lifecycle.ROWS,
    "exec": execs.ROWS,
    "stdio": {**stdio.ROWS, **writes.ROWS, **stalled.ROWS},
    "events": events.ROWS,
    "broker": {**broker.ROWS, **messaging.ROWS},
    "curve": curve.ROWS,
    "flood": flood.ROWS,
    "memory": memory.ROWS,
    "batch": batch.ROWS,
    "bundles": bundles.ROWS,
    "command line": command_line.ROWS,
    "growth": growth.ROWS,
    "guests": vms.ROWS,
    "peers": peers.ROWS,
}
"""Topic → its rows by name, in the order in which they are measured."""
