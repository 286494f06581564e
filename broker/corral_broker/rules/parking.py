"""Commands that came before their guest did: a broker that has just started keeps them for guests it knows of, for a while."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from corral_broker.state.deadlines import DeadlineWheel
from corral_broker.state.ports import Opaque
from corral_broker.state.senders import ANYONE, Sender
from corral_schemas.frames import CommandHeader, pack
from corral_schemas.limits import HELD_COMMANDS_MAX

HELD_BYTES_MAX = 64 << 20
"""Bytes of arguments held in all."""
AGE_MS_MAX = (1 << 63) - 1


@dataclass(slots=True, eq=False)
class Held:
    """One command that waits for its guest."""

    client: bytes
    header: CommandHeader
    header_frame: bytes
    args: Opaque
    since_s: float
    deadline_s: float
    sender: Sender = ANYONE
    tick: int = 0


class Parking:
    """Held commands by guest, in the order they came."""

    def __init__(self) -> None:
        self._by_guest: dict[str, dict[tuple[bytes, str], Held]] = {}  # guest -> (client, request id) -> command, in order of arrival
        self._wheel: DeadlineWheel[Held] = DeadlineWheel()
        self._bytes = 0
        self.count = 0

    def add(self, held: Held) -> bool:
        """False when nothing more can be held. A repeat of a command that is held already counts as held."""
        key = (held.client, held.header.id)
        if key in self._by_guest.get(held.header.guest, ()):
            return True
        if self.count >= HELD_COMMANDS_MAX or self._bytes + len(held.args) > HELD_BYTES_MAX:
            return False
        self._by_guest.setdefault(held.header.guest, {})[key] = held
        self._wheel.add(held, held.deadline_s)
        self._bytes += len(held.args)
        self.count += 1
        return True

    def release(self, guest: str) -> list[Held]:
        """Takes out what was held for a guest, in order."""
        taken = list(self._by_guest.pop(guest, {}).values())
        for held in taken:
            self._take_out(held)
        return taken

    def release_all(self) -> Iterator[Held]:
        for guest in list(self._by_guest):
            yield from self.release(guest)

    def drop(self, is_out: Callable[[Held], bool]) -> None:
        """Takes out what may not be sent any more."""
        for guest, queue in list(self._by_guest.items()):
            for key, held in list(queue.items()):
                if is_out(held):
                    del queue[key]
                    self._take_out(held)
            if not queue:
                del self._by_guest[guest]

    def pop_overdue(self, now_s: float) -> list[Held]:
        """Takes out what was held past its deadline."""
        overdue = self._wheel.pop_due(now_s)
        for held in overdue:
            queue = self._by_guest[held.header.guest]
            del queue[held.client, held.header.id]
            if not queue:
                del self._by_guest[held.header.guest]
            self._take_out(held)
        return overdue

    def next_due_s(self) -> float | None:
        return self._wheel.next_due_s()

    def _take_out(self, held: Held) -> None:
        self._wheel.remove(held)
        self._bytes -= len(held.args)
        self.count -= 1


def aged_header(held: Held, now_s: float) -> bytes:
    """The command's header with the time it was held taken off timeout_ms and put onto age_ms; fields unknown here are kept."""
    held_ms = int((now_s - held.since_s) * 1000)
    timeout_ms = max(0, held.header.timeout_ms - held_ms)
    age_ms = min(held.header.age_ms + held_ms, AGE_MS_MAX)
    try:
        fields = msgspec.msgpack.decode(held.header_frame, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):  # keys that are no text: such fields nobody can know
        return pack(msgspec.structs.replace(held.header, timeout_ms=timeout_ms, age_ms=age_ms))
    return msgspec.msgpack.encode({**fields, "timeout_ms": timeout_ms, "age_ms": age_ms})
