"""The wire under a client: per broker a DEALER for commands and, once needed, a second one for replies full of bytes."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import zmq

from corral.channel import Link, OnMessage, Wire, ZmqWire
from corral.core.links import Links
from corral.core.retry import Action, Request, Requests, Send
from corral.shared_waits import SharedWaits
from corral.timeouts import checked_s
from corral.words import new_request_id
from corral_schemas.base import Message
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import op_named, pack
from corral_schemas.limits import COMMAND_TIMEOUT_S, FRAME_BYTES_MAX
from corral_schemas.names import check_request_id
from corral_schemas.queries import HelloReply, Nothing

R = TypeVar("R", bound=Message)

_POLL_FIELDS = ("wait_ms", "timeout_ms", "grace_ms")
"""Arguments that say how long a guest may rightly take before it answers, milliseconds."""
UPLOAD_SILENCE_S = 30.0
"""A message full of bytes may be long on a slow link: repeating it sooner would only make that slower. A broken link is seen at once."""


class Connection:
    """Commands and their replies, over whichever of the brokers answers. Belongs to the event loop it was opened in."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        retry_unreachable: bool = False,
        make_wire: Callable[[], Wire] = ZmqWire,
    ) -> None:
        self.addresses: list[str] = list(addresses)
        self.timeout_s = checked_s(timeout_s)
        self.hellos: dict[int, HelloReply] = {}
        self.on_hello: list[Callable[[int], None]] = []  # told of every broker that answers; event streams add and remove themselves
        self._patience_s = float("inf") if retry_unreachable else 0.0
        self.waits = SharedWaits()
        self._links = Links(len(self.addresses))
        self._requests = Requests(self._links)
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._channels: dict[tuple[int, bool], Link] = {}  # (link, bulk)
        self._up: set[tuple[int, bool]] = set()
        self._extra: list[Link] = []  # opened for event streams
        self._greetings: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._make_wire = make_wire
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._first_hello: asyncio.Future[None] | None = None
        self._pid = os.getpid()

    @property
    def address(self) -> str:
        """Address of the broker in use."""
        return self.addresses[self._links.active]

    @property
    def hello(self) -> HelloReply:
        """What the broker in use said of itself. Raises guest_unreachable before one has answered."""
        if self._links.active not in self.hellos:
            raise error("guest_unreachable", "no broker has answered yet")
        return self.hellos[self._links.active]

    async def open(self, connect_timeout_s: float) -> None:
        """Dials every broker and returns when the first has answered. Raises guest_unreachable, unsupported_version, bad_request."""
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self._wire = self._make_wire()
        self._first_hello = self._loop.create_future()
        try:
            for link in range(len(self.addresses)):
                self._channel(link, bulk=False)
            async with asyncio.timeout(checked_s(connect_timeout_s, "connect_timeout_s")):
                await self._first_hello
        except TimeoutError as why:
            await self.close()
            raise error("guest_unreachable", f"no broker answered at {', '.join(self.addresses)} within {connect_timeout_s:g} s") from why
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes all sockets; whoever waits for a reply is cancelled. Closing again does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._greetings:
            task.cancel()
        await asyncio.gather(*self._greetings, return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()
        for channel in [*self._channels.values(), *self._extra]:
            channel.close()
        self._channels.clear()
        self._extra.clear()
        self._up.clear()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    async def ask(
        self,
        guest: str,
        op: str,
        args: Message | bytes,
        reply: type[R],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        patience_s: float | None = None,
        shared: str = "",
        link: int | None = None,
    ) -> R:
        """`call` for an op whose reply type is known."""
        answer = await self.call(
            guest, op, args, timeout_s=timeout_s, request_id=request_id, patience_s=patience_s, shared=shared, link=link
        )
        if not isinstance(answer, reply):
            raise TypeError(f"{op} replies {type(answer).__name__}, not {reply.__name__}")
        return answer

    async def call(
        self,
        guest: str,
        op: str,
        args: Message | bytes,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        patience_s: float | None = None,
        epoch: str = "",
        age_s: float | None = None,
        shared: str = "",
        link: int | None = None,
    ) -> Message:
        """One command, repeated under one request id until it has an outcome (see core/retry.py).

        args: bytes are arguments that were packed before, for many guests. timeout_s: seconds to its deadline (None: the client's).
        patience_s: how long on end the guest may be out of reach (None: as the client was made). epoch: the guest's, as known when the id
        was first sent (empty: as known here). age_s: how long ago it was first sent (0: never before; None: not said, so an id of the
        caller's own may have been). shared: a name for arguments that go to several guests, never used for others: they travel to a broker
        once. link: the only broker that may be asked, by its place among `addresses`. Raises CorralError.
        """
        if request_id is not None:
            check_request_id(request_id)
        checked_s(age_s, "age_s")
        packed = _packed(guest, args)
        now_s = self._now_s()
        request = Request(
            id=request_id or new_request_id(),
            guest=guest,
            op=op,
            args=packed,
            first_s=now_s - (age_s or 0.0),
            deadline_s=now_s + (self.timeout_s if timeout_s is None else checked_s(timeout_s)),
            bulk=op_named(op).bulk and bool(guest),
            poll_s=UPLOAD_SILENCE_S if op_named(op).upload else max(getattr(args, field, 0) for field in _POLL_FIELDS) / 1000,
            patience_s=self._patience_s if patience_s is None else max(patience_s, self._patience_s),
            patience_once_there_s=self.timeout_s if op_named(op).long_poll and op_named(op).role == "observer" else 0.0,
            epoch=epoch,
            # a cancel, too, means something from before: it does not move on to a new epoch
            sent_before=bool(age_s) or op == "cancel" or (request_id is not None and age_s is None),
            shared=shared,
            link=link,
        )
        return await self._outcome(request)

    def open_channel(
        self, kind: int, address: str, on_message: OnMessage, *, on_up: Callable[[], None], on_down: Callable[[], None], receive_hwm: int
    ) -> Link:
        """One more socket; closed with the connection, or before by `close_channel`."""
        channel = self._open_wire().dial(kind, address, on_message=on_message, on_up=on_up, on_down=on_down, receive_hwm=receive_hwm)
        self._extra.append(channel)
        return channel

    def close_channel(self, channel: Link) -> None:
        channel.close()
        with contextlib.suppress(ValueError):  # the connection was closed before
            self._extra.remove(channel)

    async def _outcome(self, request: Request) -> Message:
        if self._wire is None or self._loop is None:
            raise error("guest_unreachable", "the client is not open: use it as an async context manager")
        if os.getpid() != self._pid:
            raise forked(self._pid)
        actions = self._requests.submit(request, self._now_s())
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[request.id] = future
        try:
            self._carry_out(actions)
            return await future
        finally:
            self._waiting.pop(request.id, None)
            self._requests.forget(request.id)

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                if not self._sent(action):
                    self._requests.on_unsent(action.request, self._now_s())
                continue
            future = self._waiting.get(action.request.id)
            if future is None or future.done():
                continue
            if isinstance(action.outcome, CorralError):
                future.set_exception(action.outcome)
            else:
                future.set_result(action.outcome)
        self._set_timer()

    def _sent(self, action: Send) -> bool:
        channel = self._channel(action.link, action.request.bulk)
        return (action.link, action.request.bulk) in self._up and channel.send(action.frames)

    def _set_timer(self) -> None:
        wake_s = self._requests.next_wake_s()
        if self._timer is not None:
            if wake_s is not None and not self._timer.cancelled() and self._timer.when() <= wake_s and self._timer.when() > self._now_s():
                return  # it rings early enough
            self._timer.cancel()
            self._timer = None
        if wake_s is not None and self._loop is not None and self._wire is not None:
            self._timer = self._loop.call_at(wake_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._carry_out(self._requests.expire(self._now_s()))

    def _channel(self, link: int, bulk: bool) -> Link:
        channel = self._channels.get((link, bulk))
        if channel is None:
            channel = self._channels[link, bulk] = self._dial(link, bulk)
        return channel

    def _dial(self, link: int, bulk: bool) -> Link:
        return self._open_wire().dial(
            zmq.DEALER,
            self.addresses[link],
            on_message=partial(self._on_message, link),
            on_up=partial(self._on_up, link, bulk),
            on_down=partial(self._on_down, link, bulk),
        )

    def _on_message(self, link: int, frames: list[bytes]) -> None:
        self._carry_out(self._requests.on_reply(link, frames, self._now_s()))

    def _on_up(self, link: int, bulk: bool) -> None:
        self._up.add((link, bulk))
        actions = self._requests.on_up(link, self._now_s(), bulk=bulk)
        self._carry_out(actions)
        says_nothing = bulk and not actions  # with keys a broker cuts such a connection, again and again
        if self._loop is not None and (not bulk or says_nothing):
            task = self._loop.create_task(self._greet(link) if not bulk else self._say_hello(link))
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    def _on_down(self, link: int, bulk: bool) -> None:
        self._up.discard((link, bulk))
        self._carry_out(self._requests.on_down(link, self._now_s(), bulk=bulk))

    def _hello(self, link: int, *, bulk: bool = False) -> Request:
        now_s, deadline_s = self._now_s(), self._now_s() + self.timeout_s
        args = pack(Nothing())
        return Request(id=new_request_id(), guest="", op="hello", args=args, first_s=now_s, deadline_s=deadline_s, link=link, bulk=bulk)

    async def _say_hello(self, link: int) -> None:
        with contextlib.suppress(CorralError):
            await self._outcome(self._hello(link, bulk=True))

    async def _greet(self, link: int) -> None:
        try:
            reply = await self._outcome(self._hello(link))
        except CorralError as why:
            if (
                why.code != "deadline_exceeded"
                and self._first_hello is not None
                and not self._first_hello.done()
                and len(self.addresses) == 1
            ):
                self._first_hello.set_exception(why)
            return  # one of several brokers that does not answer is left out until it connects again
        if isinstance(reply, HelloReply):
            self.hellos[link] = reply
            self._carry_out(self._requests.on_hello(link, self._now_s(), shares_args=reply.shares_args, rate_per_s=reply.rate_per_s))
            if self._first_hello is not None and not self._first_hello.done():
                self._first_hello.set_result(None)
            for tell in list(self.on_hello):
                tell(link)

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise error("guest_unreachable", "the client is closed")
        return self._wire

    def _now_s(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()


def forked(pid: int) -> CorralError:
    """Return the error of a client that is used in a child of the process that opened it: its sockets and its thread are not there."""
    return error("bad_request", f"this client was opened in process {pid}; process {os.getpid()} is a fork of it: open one here")


def _packed(guest: str, args: Message | bytes) -> bytes:
    """The arguments; the guest's name is only looked at. Raises bad_request for what no message can carry, message_too_large."""
    try:
        guest.encode()
        packed = pack(args) if isinstance(args, Message) else args
    except UnicodeEncodeError as why:
        raise error("bad_request", f"{why.object!r} is not UTF-8: arguments, names, variables and paths are text") from why
    except OverflowError as why:
        raise error("bad_request", f"a number does not fit into 64 bits: {why}") from why
    if len(packed) > FRAME_BYTES_MAX:
        raise error("message_too_large", f"arguments of {len(packed)} bytes; the limit is {FRAME_BYTES_MAX}", limit=FRAME_BYTES_MAX)
    return packed
