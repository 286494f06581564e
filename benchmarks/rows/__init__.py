"""One file per topic; each has the rows of one table."""

from kit.bench import Row
from rows import execs, lifecycle, stdio

TOPICS: dict[str, dict[str, Row]] = {
    "lifecycle": lifecycle.ROWS,
    "exec": execs.ROWS,
    "stdio": stdio.ROWS,
}
"""Topic → its rows by name, in the order in which they are measured."""
