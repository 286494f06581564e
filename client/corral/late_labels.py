"""Messages of guests whose labels are not known yet: a guest may be heard of before its registration is, whose message was lost."""

import asyncio
from collections.abc import Callable, Coroutine

from corral.connection import Connection
from corral.core.membership import Membership
from corral_schemas.errors import CorralError
from corral_schemas.events import EventHeader
from corral_schemas.queries import GuestInfo, GuestsReply, Nothing

WAITING_MAX = 10_000
"""Messages kept meanwhile; what is dropped beyond is repaired like any loss."""
AGAIN_S = 0.5


class LateLabels:
    """Keeps them until the broker has said the labels, then hands them on. `members` None: nobody is judged by labels.

    The asking is a task of whoever reads the messages: `start` begins it there, where its failure is seen and it ends with the reader.
    """

    def __init__(
        self,
        connection: Connection,
        members: Membership | None,
        hand_on: Callable[[list[bytes]], None],
        start: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._connection, self._members, self._hand_on, self._start = connection, members, hand_on, start
        self._waiting: list[tuple[str, list[bytes]]] = []  # guest, its message
        self._asking = False

    def keeps(self, header: EventHeader, frames: list[bytes]) -> bool:
        """Whether the message has to wait, and is kept here now."""
        if self._members is None or header.kind == "guest_up" or self._members.knows(header.guest):
            return False
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append((header.guest, frames))
        if not self._asking:
            self._asking = True
            self._start(self._ask(self._members))
        return True

    async def guests(self) -> list[GuestInfo]:
        """Those that the broker knows; their labels are known from now on."""
        known = (await self._connection.ask("", "guests", Nothing(), GuestsReply)).guests
        if self._members is not None:
            for info in known:
                self._members.learn(info.guest, info.labels)
        return known

    async def _ask(self, members: Membership) -> None:
        try:
            while True:
                try:
                    await self.guests()
                    break
                except CorralError:  # the broker is away: what waits is judged once it is back
                    await asyncio.sleep(AGAIN_S)
        finally:
            self._asking = False
        waiting, self._waiting = self._waiting, []
        for guest, frames in waiting:
            if not members.knows(guest):  # not even to the broker: it has no labels
                members.learn(guest, {})
            self._hand_on(frames)
