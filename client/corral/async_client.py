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
    from corral.event_stream import EventStream
    from corral.fleet_map import Command, Mapped
    from corral.selectors import Selector

T = TypeVar("T")


class AsyncClient:
    """Talks to guests through a broker; use it as an async context manager, in one event loop.

    broker: address or addresses; None: see `corral.address.resolve_address`. timeout_s: deadline of a command that states none.
    connect_timeout_s: how long to wait for a broker on entering; guest_unreachable after it. retry_unreachable: whether commands are
    repeated (under their request id, until their deadline) while their guest is out of reach, instead of failing at once. keys: for
    tcp; None: see `corral.keys.find_keys`. make_wire: where sockets come from, in place of ZeroMQ.
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
        """Closes every socket; commands still waiting are cancelled."""
        await self._connection.close()

    @property
    def address(self) -> str:
        """Address of the broker in use."""
        return self._connection.address

    @property
    def hello(self) -> HelloReply:
        """What the broker in use said of itself."""
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
        """One command and its reply, repeated under one request id until its deadline; whatever is repeated, it runs at most once.

        guest: empty for the broker itself. Repeated on silence, on reconnect, on guest_busy, and on guest_unreachable only with
        retry_unreachable (None: as the client was made). Raises CorralError with the code in the reply, or deadline_exceeded with
        details.request_id, under which `result` gives the late reply.

        Whoever repeats what an earlier program sent under request_id says what that one knew: epoch, the guest's (`info`) at the time,
        and age_s, how many seconds ago that was (0: it was never sent before). A guest whose journal was lost or set back since answers
        outcome_unknown then, and one that may have forgotten the request does too; neither carries it out a second time.
        """
        patience_s = None if retry_unreachable is None else (float("inf") if retry_unreachable else 0.0)
        return await self._connection.call(
            guest, op, args, timeout_s=timeout_s, request_id=request_id, patience_s=patience_s, epoch=epoch, age_s=age_s
        )

    async def guests(self) -> list[GuestInfo]:
        """Every guest the broker knows of, up or down."""
        return (await self._connection.ask("", "guests", Nothing(), GuestsReply)).guests

    async def forget_guests(self, guests: Iterable[str]) -> list[str]:
        """Takes guests that left for good off the list of every broker; → those that one of them knew. Keys stay accepted.

        Raises guest_connected (details.guests) where a broker has one of them connected and has forgotten none; deadline_exceeded where a
        broker does not answer, which still knows them then.
        """
        from corral.forgetting import forget_guests

        return await forget_guests(self._connection, guests)

    async def info(self, guest: str = "") -> InfoReply:
        """About a guest's worker; with an empty name about the broker."""
        return await self._connection.ask(guest, "info", Nothing(), InfoReply)

    async def list(self, guests: Iterable[str] | None = None) -> FleetList:
        """Containers of these guests (None: all the broker knows of), with a cursor to follow on from without a hole."""
        return await list_fleet(self._connection, guests)

    async def find(self, name_or_path: str, guest: str | None = None) -> Process | Container:
        """The container or process meant by GUEST/NAME, GUEST/NAME/EXEC, or a NAME that only one guest has; with `guest`: NAME or
        NAME/EXEC. Raises name_ambiguous (details.candidates), container_not_found or process_not_found (details.nearest), and
        guest_unreachable where a NAME is in no guest that answers and some do not (details.silent)."""
        return await find(self._connection, name_or_path, guest)

    def guest(self, name: str) -> Guest:
        """A guest by name, without asking anybody."""
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
        """A stream of events; live once entered (`async with`), then iterate.

        kinds, guests: only these; None: all. select: only guests that this selector means (see corral.selectors), those that come later
        too; a guest is judged anew by its labels whenever it registers. after: go on right behind this cursor (guests not in it: from
        their beginning); None: from now. broker_events: also guest_up and guest_down. beacons: also heartbeats. Raises bad_request for an
        unreadable cursor or selector.
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
        """Runs a program in a new container to its end, keeps all it writes (in memory), and deletes the container: subprocess.run for
        a guest.

        rootfs, or spec (whose args are replaced by `args`): exactly one. stdin: its input, then end of file; None: it has none. check:
        raise ProcessFailedError if it does not end with 0. timeout_s: seconds after which it is killed and wait_timeout raised; so it is
        when this call is cancelled. Raises what Guest.run and Process.output raise.
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
        """The same act in every guest selected, each outcome as it comes; leaving the loop early cancels the rest.

        select: see corral.selectors. act: a function of a Guest, or a command as (op, args). window: how many at a time, or `10%` of
        them. timeout_s: for each guest. A CorralError of one guest is its outcome and stops nothing; anything else that `act` raises
        ends the iteration. Raises bad_request for a selector or window that means nothing, guest_unreachable where no guest is meant.
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
        """Brings a packed bundle (`corral.pack_bundle`) to every guest selected, each outcome as it comes.

        names: what it is called there, NAME[:TAG]. on_progress: called in the event loop with a PushProgress whenever one guest has come
        further. See Bundles.push for what a push does and raises, and `map` for the rest.
        """
        from corral.bundle.messages import Messages
        from corral.bundle.push import Push
        from corral.fleet_map import fleet_map

        messages = Messages(bundle, shared=True)

        async def one(guest: Guest) -> "Pushed":
            return await Push(self._connection, guest.name, bundle, names, on_progress, messages).run()

        return fleet_map(self._connection, select, one, window=window)
