"""Which page of the protocol's documents each message stands on, and how links are led there.

Generated text names a message as `[Exit](@Exit)`; on the message's own page that becomes `#exit`, on one beside it `events.md#exit`.
"""

import os
import re
from pathlib import Path

from corral_schemas.document.catalogue import SESSION, messages, parts
from corral_schemas.events import EVENT_KINDS
from corral_schemas.ops import OPS

RULES = "PROTOCOL.md"
COMMANDS = "reference/commands.md"
EVENTS = "reference/events.md"
WORKER_SESSION = "reference/worker-session.md"
ERRORS = "reference/errors.md"
LIMITS = "reference/limits.md"
PAGES = (RULES, COMMANDS, EVENTS, WORKER_SESSION, ERRORS, LIMITS)
"""Paths below schemas/."""

_ELSEWHERE = {"EventHeader": EVENTS, "StdioHeader": EVENTS, "Exit": EVENTS, "StreamEnd": EVENTS, "WireError": ERRORS}


def page_of(name: str) -> str:
    """The page on which a message, a part of messages, or an op is described. Raises KeyError."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    if name in {kind.__name__ for kind in SESSION.values()}:
        return WORKER_SESSION
    if name in {kind.__name__ for kind in EVENT_KINDS.values()}:
        return EVENTS
    if name in OPS or name in messages() or name in parts():
        return COMMANDS
    raise KeyError(name)


def inner_parts() -> dict[str, type]:
    """Parts of messages that stand together at the end of the page of commands."""
    return {name: kind for name, kind in parts().items() if page_of(name) == COMMANDS}


def way(page: str, target: str) -> str:
    """The relative link from one page to another file, both below schemas/."""
    return os.path.relpath(target, Path(page).parent)


def resolve(text: str, page: str) -> str:
    """Leads `(@Name)` and `(@op:name)` to where they stand, and `(@golden/FILE)` to the golden samples."""

    def led(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("golden/"):
            return f"]({way(page, f'../tests/schemas/{name}')})"
        there = page_of(name)
        return f"]({'' if there == page else way(page, there)}#{name.lower()})"

    return re.sub(r"\]\(@([\w./-]+)\)", led, text)
