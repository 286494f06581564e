"""Topics of the two PUB/SUB pairs. A prefix to subscribe to ends in `/`, because `event/vm-1` is also the beginning of `event/vm-10`."""

from typing import Final

EVENT: Final = b"event/"
STDIO: Final = b"stdio/"
NONCE: Final = b"nonce/"
"""Subscribing to `nonce/<anything unique>` makes the exchange publish that topic once: proof that this socket's earlier
subscriptions are live."""


def event_topic(guest: str, kind: str, container: str = "", process: str = "") -> bytes:
    """`event/<guest>/<kind>/<container>/<process>`; guest-level events leave the last two parts empty."""
    return f"event/{guest}/{kind}/{container}/{process}".encode()


def beacon_topic(guest: str) -> bytes:
    """`event/<guest>/beacon//`: the guest's heartbeat, published by the broker."""
    return event_topic(guest, "beacon")


def event_prefix(guest: str = "", kind: str = "") -> bytes:
    """Prefix for all events, one guest's, or one guest's of one kind. Raises ValueError for a kind without a guest."""
    if kind and not guest:
        raise ValueError("a prefix can name a kind only after a guest")
    return EVENT + (f"{guest}/" if guest else "").encode() + (f"{kind}/" if kind else "").encode()


def stdio_topic(guest: str, container: str, process: str, stream: str) -> bytes:
    """`stdio/<guest>/<container>/<process>/<stream>`, stream being stdout or stderr."""
    return f"stdio/{guest}/{container}/{process}/{stream}".encode()


def stdio_prefix(guest: str = "", container: str = "", process: str = "") -> bytes:
    """Prefix for all stdio, or that of one guest, container or process. Raises ValueError where an outer part is missing."""
    parts = [guest, container, process]
    named = [part for part in parts if part]
    if parts[: len(named)] != named:
        raise ValueError("a prefix names guest, container and process from the left")
    return STDIO + "".join(f"{part}/" for part in named).encode()
