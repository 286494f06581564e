"""Guests that are not connected while others are looked at: told in one line, and no failure unless they were asked for by name."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from corral.cli.text.failures import say
from corral.plain_text import count_text

if TYPE_CHECKING:
    from corral import CorralError
    from corral.selectors import Selector

NAMED_MAX = 8
"""Guests named in the line."""


class Away:
    """Gathers them; `say` tells of all at once, and never of the same again."""

    def __init__(self, names: Iterable[str] = (), select: "Selector | None" = None) -> None:
        """names, select: how the guests were asked for."""
        self._by_name = {*names, *(select.names if select else ())}
        self._guests: list[str] = []
        self._told: set[str] = set()

    def takes(self, guest: str, why: "CorralError") -> bool:
        """False for one that was asked for by name, or is connected and did not answer: that is a failure, and the caller's to tell."""
        if guest in self._by_name or why.code != "guest_unreachable" or why.details.get("sent"):
            return False
        self.add([guest])
        return True

    def left_out(self, guests: Iterable[str]) -> set[str]:
        """Those of these guests, which are down, that were not asked for by name: they need not be asked."""
        away = [name for name in guests if name not in self._by_name]
        self.add(away)
        return set(away)

    @property
    def any(self) -> bool:
        """Whether there are any, told or not."""
        return bool(self._told)

    def add(self, guests: Iterable[str]) -> None:
        fresh = [name for name in guests if name not in self._told]
        self._guests += fresh
        self._told.update(fresh)

    def say(self) -> None:
        if not self._guests:
            return
        names, self._guests = sorted(self._guests), []
        shown = ", ".join(names[:NAMED_MAX]) + (", …" if len(names) > NAMED_MAX else "")
        say(
            f"{count_text(len(names), 'guest')} away: {shown}",
            hint="corral guests tells since when; corral guests forget NAME, if for good",
        )
