"""The guests that targets of `any` are given to: which are up, and which has least to do. No I/O."""

from collections.abc import Collection, Iterable

from corral_schemas.queries import GuestInfo


class Guests:
    """What the broker last said of them, and what their runner has given them since."""

    def __init__(self) -> None:
        self._infos: dict[str, GuestInfo] = {}
        self._loads: dict[str, int] = {}  # guest -> commands that wait or run there, as it last said
        self._away: set[str] = set()  # found out of reach since the broker was last asked about them
        self._in_flight: dict[str, int] = {}  # guest -> attempts under way
        self._given: dict[str, int] = {}  # guest -> attempts ever given by this runner

    def learn(self, infos: Iterable[GuestInfo]) -> None:
        """What the broker says now."""
        self._infos = {info.guest: info for info in infos}
        self._loads = {guest: info.load.runtime_calls + info.load.queued for guest, info in self._infos.items()}
        self._away.clear()

    def info(self, guest: str) -> GuestInfo | None:
        """What the broker last said of it."""
        return self._infos.get(guest)

    def not_reached(self, guest: str) -> None:
        """An attempt never left for it: nothing more goes there before the broker is asked again."""
        self._away.add(guest)

    def take(self, guest: str) -> None:
        """An attempt begins there."""
        self._in_flight[guest] = self._in_flight.get(guest, 0) + 1
        self._given[guest] = self._given.get(guest, 0) + 1

    def give_back(self, guest: str) -> None:
        """An attempt there has its outcome."""
        self._in_flight[guest] -= 1

    def up(self) -> list[str]:
        """Those that targets may be given to."""
        return [name for name, info in self._infos.items() if info.up and name not in self._away]

    def least_loaded(self, tried: Collection[str]) -> str:
        """By what we have under way there, then by what it said of itself, then by turns; empty where none is up. Those tried come last."""
        up = self.up()
        untried = [name for name in up if name not in tried] or up
        order = (self._in_flight, self._loads, self._given)
        return min(untried, key=lambda name: (*(counts.get(name, 0) for counts in order), name), default="")
