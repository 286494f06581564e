"""The synchronous client."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from corral.async_client import AsyncClient
from corral.container import Container as AsyncContainer
from corral.core.items import Event, Item
from corral.event_stream import EventStream
from corral.fleet import FleetList
from corral.guest import Guest as AsyncGuest
from corral.keys import Keys
from corral.sync.container import Container, Process
from corral.sync.guest import Guest
from corral.sync.portal import Portal
from corral_schemas.base import Message
from corral_schemas.containers import ContainerSpec
from corral_schemas.cursor import Cursor
from corral_schemas.limits import COMMAND_TIMEOUT_S
from corral_schemas.queries import GuestInfo, HelloReply, InfoReply

if TYPE_CHECKING:
    from corral.bundle.pack import Packed
    from corral.bundle.push import OnProgress, Pushed
    from corral.completed import Completed
    from corral.fleet_map import Command, Mapped
    from corral.selectors import Selector

T = TypeVar("T")


class Client:
    """Talk to guests through a broker without `await`, from any number of threads; a context manager.

    It has AsyncClient's parameters, methods and errors. Ctrl-C during a call cancels it, as cancelling does there. A forked child needs
    its own Client.
    """

    def __init__(
        self,
        broker: str | Sequence[str] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        connect_timeout_s: float = 5.0,
        retry_unreachable: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self._client = AsyncClient(
            broker, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, retry_unreachable=retry_unreachable, keys=keys
        )
        self._portal = Portal()

    def __enter__(self) -> "Client":
        self._portal.start()
        try:
            self._portal.run(self._client.__aenter__())
        except BaseException:
            self._portal.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket and end the thread. Closing again does nothing."""
        if self._portal.running:
            try:
                self._portal.run(self._client.close())
            finally:
                self._portal.stop()

    @property
    def address(self) -> str:
        """Return the address of the broker in use."""
        return self._client.address

    @property
    def hello(self) -> HelloReply:
        """Return what the broker in use said of itself."""
        return self._client.hello

    def call(
        self,
        guest: str,
        op: str,
        args: Message,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        retry_unreachable: bool | None = None,
        epoch: str = "",
        age_s: float | None = None,
    ) -> Message:
        """Send one command and return its reply; repeat it under one request id until its deadline. It runs at most once."""
        return self._portal.run(
            self._client.call(
                guest,
                op,
                args,
                timeout_s=timeout_s,
                request_id=request_id,
                retry_unreachable=retry_unreachable,
                epoch=epoch,
                age_s=age_s,
            )
        )

    def guests(self) -> list[GuestInfo]:
        """Return every guest that the broker knows of, up or down."""
        return self._portal.run(self._client.guests())

    def forget_guests(self, guests: Iterable[str]) -> list[str]:
        """Remove guests that left for good from the list of every broker; return those that a broker knew. Keys stay accepted."""
        return self._portal.run(self._client.forget_guests(guests))

    def info(self, guest: str = "") -> InfoReply:
        """Return what a guest's worker says of itself; with an empty name, the broker."""
        return self._portal.run(self._client.info(guest))

    def list(self, guests: Iterable[str] | None = None) -> FleetList:
        """Return the containers of these guests (None: all that the broker knows of), with a cursor to follow on from without a hole."""
        return self._portal.run(self._client.list(guests))

    def find(self, name_or_path: str, guest: str | None = None) -> Process | Container:
        """Return the container or process that a text means: GUEST/NAME, GUEST/NAME/EXEC, or a NAME that only one guest has."""
        found = self._portal.run(self._client.find(name_or_path, guest))
        return Container(self._portal, found) if isinstance(found, AsyncContainer) else Process(self._portal, found)

    def guest(self, name: str) -> Guest:
        """Return a guest by name, without asking it."""
        return Guest(self._portal, self._client.guest(name))

    def events(
        self,
        kinds: Collection[str] | None = None,
        guests: Collection[str] | None = None,
        after: Cursor | str | None = None,
        broker_events: bool = True,
        beacons: bool = False,
        select: "str | Selector | None" = None,
    ) -> "Events":
        """Return a stream of events. It is live when entered (`async with`); then iterate."""
        return Events(self._portal, self._client.events(kinds, guests, after, broker_events, beacons, select))

    def guest_history(self, after: Cursor | str | None = None) -> "Iterator[Event]":
        """Yield what brokers keep of guests that came and went, and of their own starts and ends, up to now and in order of time."""
        return self._portal.iterate(self._client.guest_history(after))

    def keeps_history(self) -> bool:
        """Return whether the broker in use keeps `guest_history` over its restarts (it has a state directory). Raises unsupported_op."""
        return self._portal.run(self._client.keeps_history())

    def run(
        self,
        guest: str,
        args: Sequence[str],
        *,
        rootfs: str | None = None,
        spec: ContainerSpec | None = None,
        stdin: bytes | None = None,
        check: bool = False,
        timeout_s: float | None = None,
    ) -> "Completed":
        """Run a program in a new container to its end, return its exit and output, and delete the container."""
        return self._portal.run(self._client.run(guest, args, rootfs=rootfs, spec=spec, stdin=stdin, check=check, timeout_s=timeout_s))

    @overload
    def map(
        self, select: "str | Selector", act: "Command", *, window: int | str = 16, timeout_s: float | None = None
    ) -> "Iterator[Mapped[Message]]": ...

    @overload
    def map(
        self, select: "str | Selector", act: Callable[[Guest], T], *, window: int | str = 16, timeout_s: float | None = None
    ) -> "Iterator[Mapped[T]]": ...

    def map(
        self,
        select: "str | Selector",
        act: "Callable[[Guest], T] | Command",
        *,
        window: int | str = 16,
        timeout_s: float | None = None,
    ) -> "Iterator[Mapped[Any]]":
        """Run the same act in every selected guest, and yield each outcome as it comes. `act` is called in threads, one for each guest
        under way; one that has begun is not interrupted."""
        with ThreadPoolExecutor(thread_name_prefix="corral-map", max_workers=256) as pool:

            async def in_thread(guest: AsyncGuest) -> T:
                assert not isinstance(act, tuple)
                return await asyncio.get_running_loop().run_in_executor(pool, act, Guest(self._portal, guest))

            source = self._client.map(select, act if isinstance(act, tuple) else in_thread, window=window, timeout_s=timeout_s)
            mapped = self._portal.iterate(source)
            try:
                yield from mapped
            finally:
                mapped.close()

    def push(
        self,
        select: "str | Selector",
        bundle: "Packed",
        names: Sequence[str] = (),
        *,
        window: int | str = 16,
        on_progress: "OnProgress | None" = None,
    ) -> "Iterator[Mapped[Pushed]]":
        """Push a packed bundle (`corral.pack_bundle`) to every selected guest, and yield each outcome as it comes. `on_progress` is
        called in the client's own thread."""
        return self._portal.iterate(self._client.push(select, bundle, names, window=window, on_progress=on_progress))


class Events(Iterator[Item]):
    """See corral.event_stream.EventStream; use it as a context manager."""

    def __init__(self, portal: Portal, stream: EventStream) -> None:
        self._portal, self._stream = portal, stream

    def __enter__(self) -> "Events":
        self._portal.run(self._stream.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription; a thread that iterates stops."""
        if self._portal.running:
            self._portal.run(self._stream.close())

    def __iter__(self) -> "Events":
        return self

    def __next__(self) -> Item:
        try:
            return self._portal.run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    @property
    def cursor(self) -> str:
        """Return text to store: a stream opened `after` it continues behind the last item handed out."""
        return self._portal.run(_cursor(self._stream))


async def _cursor(stream: EventStream) -> str:
    """Read in the loop's thread, where it does not change meanwhile."""
    return stream.cursor
