"""Arguments that one connection sends to several guests: they come once, and are kept for a moment under the name that they came with.

Nothing hangs on what is kept here: a sender that is told `args_unknown` sends them whole.
"""

from collections import Counter, OrderedDict

from corral_broker.state.ports import Opaque

PER_CLIENT_BYTES_MAX = 32 << 20
BYTES_MAX = 64 << 20
ENTRY_BYTES = 64 << 10
"""Counted for each beside its bytes, so that they are never many: sharing what is small saves nothing."""
KEPT_S = 5.0
"""After their last use."""


class SharedArgs:
    """What is kept, the longest unused first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, str], tuple[Opaque, float]] = OrderedDict()  # (client, name) → arguments, when last used
        self._bytes_of: Counter[bytes] = Counter()  # client → bytes kept for it
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def resolve(self, client: bytes, name: str, args: Opaque, now_s: float) -> Opaque | None:
        """The arguments meant: those that came, or, where none did, those kept under that name; None where there are none."""
        key = (client, name)
        known = self._kept.get(key)
        if not len(args):
            if known is None:
                return None
            args = known[0]
        elif known is not None:
            self._drop(key)
            known = None
        if known is None:
            self._bytes += ENTRY_BYTES + len(args)
            self._bytes_of[client] += ENTRY_BYTES + len(args)
        self._kept[key] = (args, now_s)
        self._kept.move_to_end(key)
        self._make_room(client)
        return args

    def due(self, now_s: float) -> None:
        """Drops what nobody has used for a while."""
        while self._kept and (oldest := next(iter(self._kept.items())))[1][1] + KEPT_S <= now_s:
            self._drop(oldest[0])

    def next_due_s(self) -> float | None:
        """When `due` has something to do; None when never."""
        return next(iter(self._kept.values()))[1] + KEPT_S if self._kept else None

    def _make_room(self, client: bytes) -> None:
        while self._bytes_of[client] > PER_CLIENT_BYTES_MAX:
            self._drop(next(key for key in self._kept if key[0] == client))
        while self._bytes > BYTES_MAX:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[bytes, str]) -> None:
        args, _ = self._kept.pop(key)
        self._bytes -= ENTRY_BYTES + len(args)
        self._bytes_of[key[0]] -= ENTRY_BYTES + len(args)
        if not self._bytes_of[key[0]]:
            del self._bytes_of[key[0]]
