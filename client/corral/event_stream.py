"""Events as they come, from all brokers at once, repaired over the command path."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Collection, Coroutine
from dataclasses import replace
from types import TracebackType

import zmq

from corral.address import joined
from corral.broker_history import BrokerHistories, put_place
from corral.channel import Link
from corral.connection import Connection
from corral.core.broker_feed import BrokerReplay
from corral.core.follow import Follow
from corral.core.guest_feed import Ask, Replay
from corral.core.items import Advance, Event, EventGap, Item, Resync, Step
from corral.core.selection import selection
from corral.late_labels import LateLabels
from corral.selectors import Selector
from corral_schemas.cursor import Cursor, Place, cursor_to_text
from corral_schemas.errors import CorralError, error
from corral_schemas.events import BROKER_KINDS, mark_of
from corral_schemas.frames import decode_event
from corral_schemas.limits import EVENTS_HWM, HEARTBEAT_IDLE_S
from corral_schemas.queries import GuestInfo, InfoReply, ListArgs, ListReply, Nothing, ReplayArgs, ReplayReply
from corral_schemas.topics import NONCE

WAITING_MAX = 10_000
"""Items waiting for the caller beyond which nothing more is taken in; what is dropped elsewhere meanwhile is repaired later."""
NONCE_AGAIN_S = 0.5
PLACES_AT_ONCE_MAX = 256


class EventStream:
    """See AsyncClient.events. Iterate inside `async with`; items are Event, EventGap and Resync."""

    def __init__(
        self,
        connection: Connection,
        *,
        kinds: Collection[str] | None,
        guests: Collection[str] | None,
        select: Selector | None,
        after: Cursor | None,
        broker_events: bool,
        beacons: bool,
    ) -> None:
        start = None if after is None else dict(after.places)
        self._want = selection(kinds, guests, select, start, broker_events, beacons)
        self._connection = connection
        self._histories = BrokerHistories(connection)
        self._labels = LateLabels(connection, self._want.members, self._on_message, self._start)
        self._channels: dict[int, Link] = {}  # link → its subscription
        self._lost: set[int] = set()  # links whose subscription broke and has not come back
        self._early: list[list[bytes]] | None = []  # messages from before it is known where to begin
        self._follow: Follow | None = None
        self._waiting: deque[Step] = deque()
        self._given: dict[str, Place] = dict(start or {})  # what the caller has seen
        self._news = asyncio.Event()
        self._live: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None  # of a task: whoever iterates is told
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.unreadable: int = 0
        """Messages that could not be decoded; what was in them is repaired like any loss."""

    @property
    def cursor(self) -> str:
        """Return text to store: a stream opened `after` it continues behind the last item handed out."""
        places = dict(self._given)
        if self._follow is not None and not self._waiting:
            places.update(self._follow.places)
        return cursor_to_text(Cursor(places=places))

    async def __aenter__(self) -> "EventStream":
        """Subscribe, and return when the subscription is live: no later event is missed. Raises guest_unreachable if no broker echoes."""
        loop = asyncio.get_running_loop()
        self._live = loop.create_future()
        heartbeat_s = self._connection.hello.heartbeat_ms / 1000 or HEARTBEAT_IDLE_S
        try:
            for link in list(self._connection.hellos):
                self._subscribe(link)
            self._connection.on_hello.append(self._subscribe)
            await self._until_live()
            follow = Follow(self._want, heartbeat_s, loop.time())
            for guest, place in (await self._begins()).items():
                self._put(follow.add_guest(guest, place, loop.time()))
            for guest in sorted(self._want.guests or ()):
                if self._want.start is not None:
                    self._put(follow.add_guest(guest, None, loop.time()))
            settle = await self._histories.begin(follow, self._want.start) if follow.brokers.wanted else lambda: None
        except BaseException:
            await self.close()
            raise
        self._follow = follow
        early, self._early = self._early or [], None
        for frames in early:
            self._on_message(frames)
        settle()
        for epoch, place in follow.brokers.places().items():
            put_place(self._given, epoch, place.seq)
        self._go_on()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """End the subscription; iterating then stops. Closing again does nothing."""
        self._closed = True
        self._news.set()
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(ValueError):  # entering had not come that far
            self._connection.on_hello.remove(self._subscribe)
        for channel in self._channels.values():
            self._connection.close_channel(channel)
        self._channels.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Item:
        while True:
            while self._waiting:
                step = self._waiting.popleft()
                if len(self._waiting) == WAITING_MAX // 2:
                    for channel in self._channels.values():
                        channel.resume()
                    self._go_on()
                item = self._handed_out(step)
                if item is not None:
                    return item
            if self._closed:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()

    def _handed_out(self, step: Step) -> Item | None:
        """Moves the cursor past it; None if it is nothing for the caller."""
        if isinstance(step, EventGap):
            if step.guest:
                self._given[step.guest] = Place(epoch=step.epoch, seq=step.end)
            else:
                put_place(self._given, step.epoch, step.end)
            return step
        if isinstance(step, Event):
            header = step.header
            if header.kind in BROKER_KINDS:
                if header.kind != "beacon":
                    put_place(self._given, header.epoch, header.seq)
            else:
                self._given[header.guest] = Place(epoch=header.epoch, seq=header.seq, mark=mark_of(header))
            return replace(step, places=dict(self._given))
        self._given[step.guest] = step.place
        return step if isinstance(step, Resync) else None

    def _subscribe(self, link: int) -> None:
        if link in self._channels or self._closed:
            return
        address = joined(self._connection.addresses[link], self._connection.hellos[link].events_out)
        channel = self._channels[link] = self._connection.open_channel(
            zmq.SUB,
            address,
            self._on_message,
            on_up=lambda: self._on_up(link),
            on_down=lambda: self._lost.add(link),
            receive_hwm=EVENTS_HWM,
        )
        for prefix in self._want.prefixes():
            channel.subscribe(prefix)

    def _on_up(self, link: int) -> None:
        if link in self._lost:
            self._lost.discard(link)
            if self._follow is not None:
                self._follow.on_reconnect(asyncio.get_running_loop().time())
                self._go_on()

    async def _until_live(self) -> None:
        """Subscribes to nonces until one comes back."""
        if self._live is None:
            return
        try:
            async with asyncio.timeout(self._connection.timeout_s):
                while not self._live.done():
                    nonce = NONCE + secrets.token_hex(8).encode()
                    for channel in self._channels.values():
                        channel.subscribe(nonce)
                    await asyncio.wait([self._live], timeout=NONCE_AGAIN_S)
                    for channel in self._channels.values():
                        channel.unsubscribe(nonce)
        except TimeoutError as why:
            raise error("guest_unreachable", f"the broker's event socket gave no echo within {self._connection.timeout_s:g} s") from why

    async def _begins(self) -> dict[str, Place | None]:
        """Guests there are, each with the place that is `now`."""
        known = await self._labels.guests()
        wanted = [info for info in known if self._want.has_guest(info.guest)]
        places: dict[str, Place | None] = {info.guest: _place_of(info) for info in wanted}
        if self._want.start is None:
            gate = asyncio.Semaphore(PLACES_AT_ONCE_MAX)
            await asyncio.gather(*(self._find_place(info.guest, places, gate) for info in wanted if info.up))
        return places

    async def _find_place(self, guest: str, places: dict[str, Place | None], gate: asyncio.Semaphore) -> None:
        """The broker knows a place from the last heartbeat; the guest itself knows better."""
        async with gate:
            with contextlib.suppress(CorralError):  # it does not answer: the broker's word has to do, and what came since is given too
                info = await self._connection.ask(guest, "info", Nothing(), InfoReply, timeout_s=min(2.0, self._connection.timeout_s))
                if info.epoch:
                    places[guest] = Place(epoch=info.epoch, seq=info.seq, mark=info.mark)

    def _on_message(self, frames: list[bytes]) -> None:
        if frames[0].startswith(NONCE):
            if self._live is not None and not self._live.done():
                self._live.set_result(None)
            return
        if self._early is not None:
            self._early.append(frames)
            return
        if self._follow is None:
            return
        try:
            header, data = decode_event(frames)
        except (CorralError, UnicodeDecodeError):
            self.unreadable += 1
            return
        if self._labels.keeps(header, frames):
            return
        self._put(self._follow.on_message(header, data, asyncio.get_running_loop().time()))
        self._go_on()

    def _put(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Advance) and not self._waiting:
                self._given[step.guest] = step.place
            else:
                self._waiting.append(step)
        if not self._waiting:
            return
        self._news.set()
        if len(self._waiting) >= WAITING_MAX:
            for channel in self._channels.values():
                channel.pause()

    def _go_on(self) -> None:
        """Asks what is to be asked, and comes back when the next is due."""
        if self._follow is None or self._closed:
            return
        loop = asyncio.get_running_loop()
        if len(self._waiting) < WAITING_MAX:
            for ask in self._follow.asks(loop.time()):
                self._start(self._ask(self._follow, ask))
            for of_broker in self._follow.brokers.asks():
                self._start(self._ask_broker(self._follow, of_broker))
        wake_s = max(self._follow.next_wake_s(), loop.time() + 0.001)
        if self._timer is None or self._timer.cancelled() or self._timer.when() <= loop.time() or self._timer.when() > wake_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(wake_s, self._go_on)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Makes it a task of this stream; a failure nobody foresaw ends the iteration: what the task was to bring would be missing."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = self._failure or failure
            self._news.set()

    async def _ask_broker(self, follow: Follow, ask: BrokerReplay) -> None:
        self._put(await self._histories.ask(follow, ask))
        self._go_on()

    async def _ask(self, follow: Follow, ask: Ask) -> None:
        loop = asyncio.get_running_loop()
        try:
            if isinstance(ask, Replay):
                args = ReplayArgs(epoch=ask.epoch, after=ask.after, mark=ask.mark, kinds=list(ask.kinds))
                reply = await self._connection.ask(ask.guest, "replay", args, ReplayReply)
                self._put(follow.on_replay(ask, reply, loop.time()))
            else:
                listed = await self._connection.ask(ask.guest, "list", ListArgs(), ListReply)
                self._put(follow.on_place(ask, listed.place, loop.time()))
        except (CorralError, UnicodeDecodeError) as why:
            failure = why if isinstance(why, CorralError) else error("bad_request", f"an event that cannot be read: {why}")
            follow.on_failed(ask, failure, loop.time())
        self._go_on()


def _place_of(info: GuestInfo) -> Place | None:
    return Place(epoch=info.epoch, seq=info.seq, mark=info.mark) if info.epoch else None
