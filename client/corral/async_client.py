"""The client: one connection to the broker (or to one of several), shared by everything made from it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from corral.address import resolve_address
from corral.channel import Wire, ZmqWire
from corral.connection import Connection
from corral.container import Container
from corral.fleet import FleetList, find, list_fleet
from corral.guest import Guest
from corral.keys import Keys, find_keys
from corral.process import Process
from corral_schemas.base import Message
from corral_schemas.containers import ContainerSpec
from corral_schemas.cursor import Cursor, cursor_from_text
from corral_schemas.errors import error
from corral_schemas.limits import COMMAND_TIMEOUT_S
from corral_schemas.queries import GuestInfo, GuestsReply, HelloReply, InfoReply, Nothing

if TYPE_CHECKING:
    from corral.bundle.pack import Packed
    from corral.bundle.push import OnProgress, Pushed
    from corral.completed import Completed
    from corral.core.items import Event
    from corral.event_stream import EventStream
    from corral.fleet_map import Command, Mapped
    from corral.selectors import Selector

T = TypeVar("T")


class AsyncClient:
    """Talk to guests through a broker; an async context manager, for one event loop.

    broker: address or addresses; None: see `corral.address.resolve_address`. timeout_s: deadline in seconds of a command that states
    none. connect_timeout_s: seconds to wait for a broker on entering. retry_unreachable: whether commands are repeated (under their
    request id, until their deadline) while their guest is out of reach, instead of failing at once. keys: for tcp; None: see
    `corral.keys.find_keys`. make_wire: the source of sockets, instead of ZeroMQ.

    Entering raises guest_unreachable if no broker answers. Every method that asks raises CorralError: guest_unreachable, guest_busy,
    unauthorized, deadline_exceeded, and what is named below. Cancelling such a call stops waiting for its reply; a command that was sent
    may still run.
    """

    def __init__(
        self,
        broker: str | Sequence[str] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        connect_timeout_s: float = 5.0,
        retry_unreachable: bool = False,
        keys: Keys | None = None,
        make_wire: Callable[[], Wire] | None = None,
    ) -> None:
        addresses = resolve_address(broker)
        if make_wire is None:
            make_wire = partial(ZmqWire, keys or find_keys(addresses))
        self._connection = Connection(addresses, timeout_s=timeout_s, retry_unreachable=retry_unreachable, make_wire=make_wire)
        self._connect_timeout_s = connect_timeout_s

    async def __aenter__(self) -> "AsyncClient":
        await self._connection.open(self._connect_timeout_s)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every socket and cancel commands that wait. Closing again does nothing."""
        await self._connection.close()

    @property
    def address(self) -> str:
        """Return the address of the broker in use."""
        return self._connection.address

    @property
    def hello(self) -> HelloReply:
        """Return what the broker in use said of itself."""
        return self._connection.hello

    async def call(
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
        """Send one command and return its reply; repeat it under one request id until its deadline. It runs at most once.

        guest: empty for the broker. timeout_s: seconds to the deadline; None: the client's. It is repeated on silence, on reconnect, on
        guest_busy, and on guest_unreachable only with retry_unreachable (None: as the client was made).

        A program that repeats what an earlier program sent under request_id states what that one knew: epoch, the guest's (`info`) at the
        time, and age_s, how many seconds ago it was sent (0: it was never sent before). A guest whose journal was lost or set back since
        answers outcome_unknown then, and so does one that may have forgotten the request; neither runs it a second time.

        Raises CorralError with the code of the reply, or deadline_exceeded with details.request_id, under which `result` gives the late
        reply.
        """
        patience_s = None if retry_unreachable is None else (float("inf") if retry_unreachable else 0.0)
        return await self._connection.call(
            guest, op, args, timeout_s=timeout_s, request_id=request_id, patience_s=patience_s, epoch=epoch, age_s=age_s
        )

    async def guests(self) -> list[GuestInfo]:
        """Return every guest that the broker knows of, up or down."""
        return (await self._connection.ask("", "guests", Nothing(), GuestsReply)).guests

    async def forget_guests(self, guests: Iterable[str]) -> list[str]:
        """Remove guests that left for good from the list of every broker; return those that a broker knew. Keys stay accepted.

        Raises guest_connected (details.guests) if one of them is connected to a broker, which has then removed none; deadline_exceeded if a
        broker does not answer, which then still lists them.
        """
        from corral.forgetting import forget_guests

        return await forget_guests(self._connection, guests)

    async def info(self, guest: str = "") -> InfoReply:
        """Return what a guest's worker says of itself; with an empty name, the broker."""
        return await self._connection.ask(guest, "info", Nothing(), InfoReply)

    async def list(self, guests: Iterable[str] | None = None) -> FleetList:
        """Return the containers of these guests (None: all that the broker knows of), with a cursor to follow on from without a hole.

        Guests that do not answer are in `silent`, each with its error.
        """
        return await list_fleet(self._connection, guests)

    async def find(self, name_or_path: str, guest: str | None = None) -> Process | Container:
        """Return the container or process that a text means: GUEST/NAME, GUEST/NAME/EXEC, or a NAME that only one guest has.

        guest: the text is NAME or NAME/EXEC in it. Raises name_ambiguous (details.candidates), container_not_found or process_not_found
        (details.nearest), guest_unreachable if a guest that may have it is silent.
        """
        return await find(self._connection, name_or_path, guest)

    def guest(self, name: str) -> Guest:
        """Return a guest by name, without asking it."""
        return Guest(self._connection, name)

    def events(
        self,
        kinds: Collection[str] | None = None,
        guests: Collection[str] | None = None,
        after: Cursor | str | None = None,
        broker_events: bool = True,
        beacons: bool = False,
        select: "str | Selector | None" = None,
    ) -> "EventStream":
        """Return a stream of events. It is live when entered (`async with`); then iterate.

        kinds, guests: only these; None: all. select: only guests that this selector means (see `corral.selectors`), later ones too; a
        guest is judged anew by its labels when it registers. after: continue behind this cursor (guests not in it: from their beginning);
        None: from now. broker_events: guest_up and guest_down too. beacons: heartbeats too.

        Raises bad_request for a cursor or selector that cannot be read.
        """
        from corral.event_stream import EventStream  # only now: most programs are short, and read no events
        from corral.selectors import parse_selector

        return EventStream(
            self._connection,
            kinds=kinds,
            guests=guests,
            select=parse_selector(select) if isinstance(select, str) else select,
            after=cursor_from_text(after) if isinstance(after, str) else after,
            broker_events=broker_events,
            beacons=beacons,
        )

    def guest_history(self, after: Cursor | str | None = None) -> "AsyncIterator[Event]":
        """Yield what brokers keep of guests that came and went, and of their own starts and ends, up to now and in order of time.

        after: a cursor of an event that this, or a stream, gave; None: from the oldest. Raises unsupported_op for an older broker.
        """
        from corral.broker_history import guest_history

        return guest_history(self._connection, cursor_from_text(after) if isinstance(after, str) else after or Cursor())

    async def keeps_history(self) -> bool:
        """Return whether the broker in use keeps `guest_history` over its restarts (it has a state directory). Raises unsupported_op."""
        from corral.broker_history import is_kept

        return await is_kept(self._connection)

    async def run(
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
        """Run a program in a new container to its end, return its exit and output, and delete the container.

        It is subprocess.run for a guest; the output is kept in memory. rootfs, or spec (whose args are replaced by `args`): exactly one.
        stdin: its input, then end of file; None: no input. check: raise ProcessFailedError unless it ends with 0. timeout_s: seconds
        after which it is killed and wait_timeout raised.

        Raises what Guest.run and Process.output raise. If cancelled, it kills the program and deletes the container.
        """
        from corral.completed import run_to_end

        if rootfs is not None and spec is None:
            spec = ContainerSpec(rootfs=rootfs, args=list(args))
        elif rootfs is None and spec is not None:
            spec = msgspec.structs.replace(spec, args=list(args))
        else:
            raise error("bad_request", "a container is made from a rootfs or from a spec: give exactly one of them")
        completed = await run_to_end(self.guest(guest), spec, stdin, timeout_s)
        return completed.check() if check else completed

    @overload
    def map(
        self, select: "str | Selector", act: "Command", *, window: int | str = 16, timeout_s: float | None = None
    ) -> "AsyncIterator[Mapped[Message]]": ...

    @overload
    def map(
        self, select: "str | Selector", act: Callable[[Guest], Awaitable[T]], *, window: int | str = 16, timeout_s: float | None = None
    ) -> "AsyncIterator[Mapped[T]]": ...

    def map(
        self,
        select: "str | Selector",
        act: "Callable[[Guest], Awaitable[T]] | Command",
        *,
        window: int | str = 16,
        timeout_s: float | None = None,
    ) -> "AsyncIterator[Mapped[Any]]":
        """Run the same act in every selected guest, and yield each outcome as it comes.

        select: see `corral.selectors`. act: a function of a Guest, or a command as (op, args). window: how many at a time, or `10%` of
        them. timeout_s: seconds for each guest. A CorralError of one guest is its outcome and stops nothing; any other exception of `act`
        ends the iteration. Leaving the loop early cancels the rest.

        Raises bad_request for a selector or window that means nothing, guest_unreachable if no guest is meant.
        """
        from corral.fleet_map import fleet_map

        return fleet_map(self._connection, select, act, window=window, timeout_s=timeout_s)

    def push(
        self,
        select: "str | Selector",
        bundle: "Packed",
        names: Sequence[str] = (),
        *,
        window: int | str = 16,
        on_progress: "OnProgress | None" = None,
    ) -> "AsyncIterator[Mapped[Pushed]]":
        """Push a packed bundle (`corral.pack_bundle`) to every selected guest, and yield each outcome as it comes.

        names: its names there, NAME[:TAG]. on_progress: called in the event loop with a PushProgress when a guest has advanced.
        `Bundles.push` says what a push does and raises, `map` the rest.
        """
        from corral.bundle.messages import Messages
        from corral.bundle.push import Push
        from corral.fleet_map import fleet_map

        messages = Messages(bundle, shared=True)

        async def one(guest: Guest) -> "Pushed":
            return await Push(self._connection, guest.name, bundle, names, on_progress, messages).run()

        return fleet_map(self._connection, select, one, window=window)
