"""Who listens to stdio: the prefixes subscribed to at the stdio XPUB, and the set of them that concerns one guest."""

import zlib

from corral_schemas.topics import STDIO

PREFIXES_PER_GUEST_MAX = 256
PREFIX_BYTES_PER_GUEST_MAX = 8 << 10
"""Beyond so many, or so many bytes, a guest is told its whole `stdio/<guest>/` instead of each prefix."""


def stdio_hash(prefixes: list[bytes]) -> int:
    """What a heartbeat states of the prefixes a worker knows; of sorted ones."""
    return zlib.crc32(b"\n".join(prefixes))


class StdioSubscriptions:
    """Prefixes by guest; those that name no whole guest (`stdio/`, or nothing at all) apart."""

    def __init__(self) -> None:
        self._by_guest: dict[str, set[bytes]] = {}
        self._wide: set[bytes] = set()

    def change(self, prefix: bytes, subscribed: bool) -> str | None:
        """Takes a change in. Returns the one guest it concerns, `*` for any guest, or None when it concerns stdio not at all."""
        guest = _guest_named(prefix)
        if guest is None:
            return None
        prefixes = self._wide if guest == "*" else self._by_guest.setdefault(guest, set())
        if subscribed:
            prefixes.add(prefix)
        else:
            prefixes.discard(prefix)
            if guest != "*" and not prefixes:
                del self._by_guest[guest]
        return guest

    def of(self, guest: str) -> list[bytes]:
        """The sorted prefixes that match something of this guest."""
        whole = STDIO + guest.encode() + b"/"
        named = self._by_guest.get(guest, ())
        if len(named) > PREFIXES_PER_GUEST_MAX or sum(map(len, named)) > PREFIX_BYTES_PER_GUEST_MAX:
            return [whole]
        if not self._wide:
            return sorted(named)
        # Looked up by each beginning of the guest's own: there may be tens of thousands that are for no guest at all.
        # `` and `stdi` are told as `stdio/`: to a guest they mean the same, and no prefix at all and an empty one have the same hash.
        wide = {max(whole[:end], STDIO, key=len) for end in range(len(whole)) if whole[:end] in self._wide}
        return sorted(wide.union(named))


def _guest_named(prefix: bytes) -> str | None:
    if not prefix.startswith(STDIO):
        return "*" if STDIO.startswith(prefix) else None
    name, slash, _ = prefix[len(STDIO) :].partition(b"/")
    if not slash:
        return "*"
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        return None
