"""From a command's first sending to its one outcome: repeats under one request id, until the deadline. No I/O.

A command is sent again when nothing is heard for a while (longer each time; a long poll is given its poll time on top), when its broker's
connection comes back, when the guest is busy, and, for as long as the caller has patience, when the guest is out of reach. The guest runs
it once however often it arrives, because every copy bears the same id. No copy goes out before its place where a broker limits the key.
"""

import heapq
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from corral.core.links import Links
from corral.core.pace import Pace
from corral.core.shared_sent import SharedSent
from corral_schemas.base import Message
from corral_schemas.errors import CorralError, error, from_wire
from corral_schemas.frames import CommandHeader, ReplyHeader, decode_reply, pack, reply_value
from corral_schemas.limits import DEADLINE_GRACE_S

SILENCE_FIRST_S = 1.0
SILENCE_MAX_S = 8.0
NEVER_PACED = ("hello", "cancel", "kill")
"""What ends something does not wait behind what begins something."""
REFUSED_FIRST_S = 0.05
REFUSED_MAX_S = 1.0


@dataclass(slots=True)
class Request:
    """A command on its way. The caller fills in the upper part."""

    id: str
    guest: str
    op: str
    args: bytes
    first_s: float
    deadline_s: float
    bulk: bool = False
    poll_s: float = 0.0
    """How long the guest may rightly take its time before it answers."""
    patience_s: float = 0.0
    """How long on end the guest may be out of reach before that is the outcome."""
    patience_once_there_s: float = 0.0
    """The same once it has reached its guest: a long poll, which changes nothing, outlives a restart of the guest's worker."""
    link: int | None = None
    """The only broker it may go to (hello); None: whichever is in use."""
    shared: str = ""
    """Name of arguments that other commands have too: a broker that has them is not sent them again."""

    epoch: str = ""
    """The guest's epoch when the id was first sent; empty: as it is known here."""
    sent_before: bool = False
    """Somebody else may have sent it already."""
    left_out: bool = False
    """Whether the last copy went without its arguments, which the broker was sent with another command."""
    sent_over: int | None = None
    """The link that may bring the answer; None: none at the moment."""
    sent_s: float = 0.0
    sends: int = 0
    refusals: int = 0
    wake_s: float = 0.0
    silence_s: float = SILENCE_FIRST_S
    reached: bool = False
    """Whether some copy may have reached the guest."""
    failure: CorralError | None = None
    """What the last copy was turned away with; None: it was not."""
    held_back: bool = False
    """Turned away or paced, and not to be sent again before its time."""
    has_place: bool = False
    """Whether that time is its place in the broker's rate."""
    unreachable_since_s: float | None = None
    refused_by: set[int] = field(default_factory=set[int])


@dataclass(frozen=True, slots=True)
class Send:
    """These frames go out over this link now; `on_unsent` if they cannot."""

    request: Request
    link: int
    frames: list[bytes]


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of a command."""

    request: Request
    outcome: Message | CorralError


Action = Send | Done


class Requests:
    """All commands without an outcome yet. Times are seconds of one monotonic clock."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._pending: dict[str, Request] = {}
        self._wakes: list[tuple[float, str]] = []
        self._epochs: dict[str, str] = {}
        self._shared = SharedSent()
        self._paces = [Pace() for _ in range(links.count)]
        self.strays = 0
        """Replies that belong to nothing pending (late, or to a repeat answered already), or that could not be decoded."""

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, request: Request, now_s: float) -> list[Action]:
        """Takes a command up. Raises request_conflict when its id is on its way already."""
        if request.id in self._pending:
            raise error("request_conflict", f"request id {request.id} is on its way already", request_id=request.id)
        request.epoch = request.epoch or self._epochs.get(request.guest, "")
        self._pending[request.id] = request
        try:
            return self._send(request, now_s)
        except BaseException:  # what was never sent would be looked for among the waiting ones for ever
            self.forget(request.id)
            raise

    def forget(self, request_id: str) -> None:
        """Its caller does not wait any more."""
        self._pending.pop(request_id, None)

    def next_wake_s(self) -> float | None:
        """When `expire` wants to be called next."""
        while self._wakes:
            wake_s, request_id = self._wakes[0]
            request = self._pending.get(request_id)
            if request is not None and request.wake_s == wake_s:
                return wake_s
            heapq.heappop(self._wakes)
        return None

    def expire(self, now_s: float) -> list[Action]:
        """Repeats and gives up what is due."""
        actions: list[Action] = []
        while (wake_s := self.next_wake_s()) is not None and wake_s <= now_s:
            request = self._pending[heapq.heappop(self._wakes)[1]]
            if now_s >= request.deadline_s + DEADLINE_GRACE_S:
                actions.append(self._finish(request, _given_up(request)))
                continue
            if request.sent_over is not None and request.failure is None:
                self._links.suspect(request.sent_over, request.sent_s)
                request.silence_s = min(request.silence_s * 2, SILENCE_MAX_S)
            actions += self._send(request, now_s)
        return actions

    def on_up(self, link: int, now_s: float, *, bulk: bool = False) -> list[Action]:
        """A connection stands (again): what it may have lost, and what waited for one, goes out."""
        self._shared.on_connection(link, bulk=bulk)
        if not bulk:
            self._shared.on_hello(link, shares_args=False)  # it may be another broker: it says so again
            self._links.on_up(link)
        return self._send_again(now_s, {None, link}, bulk)

    def on_hello(self, link: int, now_s: float, *, shares_args: bool = False, rate_per_s: int = 0) -> list[Action]:
        """A broker answered hello and may carry commands, so many a second (0: any number)."""
        self._links.on_hello(link)
        self._paces[link].rate_per_s = rate_per_s
        self._shared.on_hello(link, shares_args=shares_args)
        return self._send_again(now_s, {None}, False) + self._send_again(now_s, {None}, True)

    def on_down(self, link: int, now_s: float, *, bulk: bool = False) -> list[Action]:
        """A connection broke: what went over it goes over another one, if there is one."""
        if not bulk:
            self._links.on_down(link)
        for request in self._pending.values():
            if request.sent_over == link and request.bulk == bulk:
                request.sent_over = None
        return self._send_again(now_s, {None}, bulk) if self._links.choose(set()) not in (None, link) else []

    def on_unsent(self, request: Request, now_s: float) -> None:
        """A Send could not be carried out; it is tried again shortly."""
        if request.sent_over is not None:
            self._shared.forget(request.sent_over, request.bulk, request.shared)
        request.sent_over = None
        request.sends -= 1
        if request.id in self._pending:
            self._wake(request, now_s + REFUSED_FIRST_S)

    def on_reply(self, link: int, frames: Sequence[bytes], now_s: float) -> list[Action]:
        """A message from a broker. Anything that cannot be read is counted and dropped: the command is repeated."""
        self._links.on_heard(link, now_s)
        try:
            header, body = decode_reply(frames)
        except (CorralError, UnicodeDecodeError):
            self.strays += 1
            return []
        if header.guest and header.epoch:
            self._epochs[header.guest] = header.epoch
        request = self._pending.get(header.id)
        if request is None:
            self.strays += 1
            return []
        if body.error is None:
            try:
                return [self._finish(request, reply_value(request.op, body))]
            except CorralError as why:  # not what the op replies: repeating would bring the same
                return [self._finish(request, why)]
        return self._refused(request, from_wire(body.error), link, header, now_s)

    def _refused(self, request: Request, why: CorralError, link: int, header: ReplyHeader, now_s: float) -> list[Action]:
        only_copy = request.sends == 1 and not request.sent_before
        if why.code == "outcome_unknown" and only_copy and request.epoch and header.epoch not in ("", request.epoch):
            # Its only copy was turned away for stating an epoch that has ended: it cannot have run.
            request.epoch = header.epoch
            return self._send(request, now_s)
        if why.code == "args_unknown" and request.left_out:
            self._shared.forget(link, request.bulk, request.shared)
            request.failure = why  # this copy was not executed
            return self._send(request, now_s)
        if why.code == "guest_busy":
            return self._try_later(request, why, now_s)
        if why.code != "guest_unreachable":  # a broker that says "not sent" speaks of this copy alone
            return [self._finish(request, _marked(why, request) if "sent" in why.details else why)]
        request.reached = request.reached or bool(why.details.get("sent"))
        if link in request.refused_by:
            request.refused_by.clear()
        request.refused_by.add(link)
        if request.link is None and self._links.untried(request.refused_by):
            return self._send(request, now_s)
        if request.unreachable_since_s is None or why.details.get("sent"):
            request.unreachable_since_s = now_s  # it was there a moment ago
        patience_s = max(request.patience_s, request.patience_once_there_s if request.reached else 0.0)
        if now_s - request.unreachable_since_s < patience_s:
            return self._try_later(request, why, now_s)
        return [self._finish(request, _marked(why, request))]

    def _try_later(self, request: Request, why: CorralError, now_s: float) -> list[Action]:
        request.failure, request.held_back = why, True
        wait_s = min(REFUSED_FIRST_S * 2**request.refusals, REFUSED_MAX_S)
        request.refusals = min(request.refusals + 1, 16)
        spread = 0.75 + 0.5 * (zlib.crc32(request.id.encode()) % 1000) / 1000
        self._wake(request, now_s + wait_s * spread)
        return []

    def _send_again(self, now_s: float, over: set[int | None], bulk: bool) -> list[Action]:
        actions: list[Action] = []
        for request in list(self._pending.values()):
            if request.sent_over in over and request.bulk == bulk and not request.held_back:
                actions += self._send(request, now_s)
        return actions

    def _send(self, request: Request, now_s: float) -> list[Action]:
        had_place, request.held_back, request.has_place = request.has_place, False, False
        if had_place and not request.sends:
            request.failure = None  # it waited for its place, and that has come
        link = self._links.choose(request.refused_by) if request.link is None else request.link
        if link is None or not self._links.is_up(link) or (request.sends and now_s >= request.deadline_s):
            request.sent_over = None
            self._wake(request, request.deadline_s + DEADLINE_GRACE_S)  # a connection that comes up sends it
            return []
        if not had_place and (wait_s := self._paces[link].wait_s(now_s)) and request.op not in NEVER_PACED:
            return self._wait_for_place(request, link, now_s + wait_s)
        header = CommandHeader(
            id=request.id,
            guest=request.guest,
            op=request.op,
            timeout_ms=max(0, int((request.deadline_s - now_s) * 1000)),
            age_ms=max(0, int((now_s - request.first_s) * 1000)),
            epoch=request.epoch,
            shared=request.shared if self._shared.is_used(link) else "",
        )
        if request.failure is None and request.sends:
            request.reached = True  # an earlier copy was never answered
            request.unreachable_since_s = None  # nor was it refused: the guest had come back since
        request.sends += 1
        request.sent_over, request.sent_s, request.failure = link, now_s, None
        self._wake(request, now_s + request.poll_s + request.silence_s)
        request.left_out = bool(header.shared) and self._shared.is_there(link, request.bulk, header.shared)
        return [Send(request, link, [pack(header), b"" if request.left_out else request.args])]

    def _wait_for_place(self, request: Request, link: int, until_s: float) -> list[Action]:
        if not request.sends:
            allowed = self._paces[link].rate_per_s
            why = f"{request.op}: not sent by its deadline, with more before it than the {allowed} commands a second of this key"
            request.failure = error("guest_busy", why, limit=allowed, sent=False)
        request.sent_over, request.held_back, request.has_place = None, True, True
        self._wake(request, until_s)
        return []

    def _wake(self, request: Request, at_s: float) -> None:
        request.wake_s = min(at_s, request.deadline_s + DEADLINE_GRACE_S)
        heapq.heappush(self._wakes, (request.wake_s, request.id))

    def _finish(self, request: Request, outcome: Message | CorralError) -> Done:
        del self._pending[request.id]
        return Done(request, outcome)


def _given_up(request: Request) -> CorralError:
    if request.failure is not None and not request.reached:
        return _marked(request.failure, request)  # never taken: it has not run and will not
    where = f"guest {request.guest}" if request.guest else "the broker"
    why = f"{request.op}: no answer from {where} by the deadline" if request.sends else f"{request.op}: no broker could be reached"
    if not request.sends:
        return error("guest_unreachable", why, request_id=request.id, sent=False)
    return error("deadline_exceeded", why, request_id=request.id, op=request.op, guest=request.guest, sent=True)


def _marked(why: CorralError, request: Request) -> CorralError:
    details = {**why.details, "request_id": request.id, "sent": request.reached or bool(why.details.get("sent"))}
    return type(why)(why.code, why.message, details)
