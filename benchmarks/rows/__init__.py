"""One file per topic; each has the rows of one table."""

from kit.bench import Row
from rows import lifecycle

TOPICS: dict[str, dict[str, Row]] = {
    "lifecycle": lifecycle.ROWS,
}
"""Topic → its rows by name, in the order in which they are measured."""
