"""Who is behind a message: the key of the connection it came by, never what it says of itself."""

from typing import NamedTuple


class Sender(NamedTuple):
    """One peer, as libzmq vouches for it."""

    key: str
    """Public key in Z85; empty where the broker runs without keys."""
    address: str


ANYONE = Sender("", "")
"""Without keys: whoever can open the socket."""
NOBODY = Sender("", "")
"""With keys: a message that libzmq made itself; no key, so nothing is allowed to it."""
