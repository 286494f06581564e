"""What the broker answers itself: hello, info and guests, which guests to forget, and what it keeps of its own events."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from corral_broker.rules.parking import HELD_BYTES_MAX
from corral_broker.rules.router import Router
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.events import BrokerEvents
from corral_broker.state.history import HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, History
from corral_broker.state.pending import IN_FLIGHT_BYTES_PER_GUEST_MAX
from corral_broker.state.registry import GUESTS_MAX, Registry
from corral_schemas import PROTOCOL_VERSION, limits
from corral_schemas.base import Message
from corral_schemas.errors import error
from corral_schemas.queries import ForgetGuestsArgs, ForgetGuestsReply, GuestsReply, HelloReply, InfoReply, ReplayArgs


@dataclass(frozen=True, slots=True)
class Identity:
    """What a broker says of itself."""

    instance: str
    """New at every start; also the `worker` of the broker's own events."""
    epoch: str
    """Of the broker's own events."""
    started_ns: int
    workers: str
    """Port, or suffix for ipc, of the workers' ROUTER; likewise the four others."""
    events_in: str
    events_out: str
    stdio_in: str
    stdio_out: str
    about: dict[str, Any] = field(default_factory=dict)
    """Addresses and security, for `info`."""


def package_version() -> str:
    """The installed version of Corral; `0+unknown` where it runs from a bare source tree."""
    try:
        return version("corral")
    except PackageNotFoundError:
        return "0+unknown"


class Answers:
    """Replies to the ops of an empty guest."""

    def __init__(
        self,
        identity: Identity,
        registry: Registry,
        router: Router,
        events: BrokerEvents,
        counters: Counters,
        clock: Clock,
        history: History,
    ) -> None:
        self._identity = identity
        self._registry = registry
        self._router = router
        self._events = events
        self._counters = counters
        self._clock = clock
        self._history = history
        self._version = package_version()

    def to(self, op: str, args: Message, rate_per_s: int) -> Message:
        """The reply to a key that may send so many commands a second (0: any number). Raises CorralError."""
        if op == "hello":
            return self._hello(rate_per_s)
        if isinstance(args, ForgetGuestsArgs):
            return self._forget(args)
        if isinstance(args, ReplayArgs):
            return self._history.replay(args)
        if op == "guests":
            return GuestsReply(guests=self._registry.infos(self._clock.now_s, self._version), place=self._events.place)
        return self._info()

    def _forget(self, args: ForgetGuestsArgs) -> ForgetGuestsReply:
        known = self._registry.guests
        connected = [name for name in args.guests if name in known and known[name].up]
        if connected:
            raise error("guest_connected", f"connected, so that nothing was forgotten: {', '.join(connected[:8])}", guests=connected[:100])
        forgotten = [name for name in dict.fromkeys(args.guests) if self._registry.forget(name)]
        self._counters.add("guests_forgotten", len(forgotten))
        return ForgetGuestsReply(forgotten=forgotten, unknown=sorted(set(args.guests) - set(forgotten)))

    def _hello(self, rate_per_s: int) -> HelloReply:
        own = self._identity
        return HelloReply(
            version=self._version,
            protocol=PROTOCOL_VERSION,
            instance=own.instance,
            workers=own.workers,
            events_in=own.events_in,
            events_out=own.events_out,
            stdio_in=own.stdio_in,
            stdio_out=own.stdio_out,
            heartbeat_ms=int(limits.HEARTBEAT_IDLE_S * 1000),
            shares_args=True,
            rate_per_s=rate_per_s,
        )

    def _info(self) -> InfoReply:
        own = self._identity
        now_there = {
            "guests_up": self._registry.up_count,
            "guests_known": len(self._registry.guests),
            "unanswered": len(self._router.pending),
            "held": self._router.parking.count,
        }
        return InfoReply(
            kind="broker",
            version=self._version,
            protocol=PROTOCOL_VERSION,
            instance=own.instance,
            epoch=self._events.place.epoch,
            seq=self._events.place.seq,
            started_ns=own.started_ns,
            limits=limits_in_force(),
            counters=dict(self._counters.counts),
            about={**own.about, "now": now_there},
        )


def limits_in_force() -> dict[str, Any]:
    """Every limit by its name: the contract's, and the broker's own."""
    named = {name: value for name, value in vars(limits).items() if name.isupper()}
    return {
        **named,
        "GUESTS_MAX": GUESTS_MAX,
        "HELD_BYTES_MAX": HELD_BYTES_MAX,
        "HISTORY_BYTES_MAX": HISTORY_BYTES_MAX,
        "HISTORY_EVENTS_MAX": HISTORY_EVENTS_MAX,
        "IN_FLIGHT_BYTES_PER_GUEST_MAX": IN_FLIGHT_BYTES_PER_GUEST_MAX,
    }
