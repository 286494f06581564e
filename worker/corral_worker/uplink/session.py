"""The worker's session with one broker: hello, register, heartbeats, commands in, replies and events out."""

import asyncio
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from corral_schemas import session
from corral_schemas.base import Message
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import (
    CommandHeader,
    ReplyHeader,
    decode_command_header,
    encode_reply,
    pack,
    unpack,
)
from corral_schemas.limits import GUEST_DOWN_S, HEARTBEAT_BUSY_S, HEARTBEAT_IDLE_S
from corral_schemas.memory import give_back
from corral_schemas.ops import OPS
from corral_schemas.session import Heartbeat, HeartbeatAck, Refused, Register, Registered
from corral_worker.journal.records import EventRecord
from corral_worker.uplink.dialer import Dialer, Socket
from corral_worker.uplink.hello import broker_addresses, say_hello
from corral_worker.uplink.suspend_detector import SuspendDetector
from corral_worker.uplink.unsent_replies import UnsentReplies

log = logging.getLogger(__name__)

BULK_IDLE_S = 30.0
"""A bulk session over which nothing came or went for so long, and over which no answer is owed, is closed."""
BULK_LEAVES_S = 1.0
"""Between its goodbye and its end, or its successor: the broker is to hear the goodbye before it sees either."""
DIAL_AGAIN_S = 2.0
"""After no socket could be opened, for want of descriptors: until the next try."""
TELL_AGAIN_S = 60.0


@dataclass(frozen=True)
class Route:
    """Where a reply goes: the session a command came by, and the broker's reference to it."""

    session: "BrokerSession"
    ref: bytes
    broker: str = ""
    """Instance of the broker that gave the reference: its successor at the same address knows nothing of it."""


@dataclass(frozen=True)
class Face:
    """What a session asks of the worker."""

    register: Callable[[Literal["main", "bulk"], bool], Register]
    """(role, whether this broker has yet to say what it had seen of the journal before us)"""
    heartbeat: Callable[[], Heartbeat]
    take: Callable[[Route, CommandHeader, bytes, float], None]
    registered: Callable[[Registered, bool], None]
    """(welcome, whether it is this broker's first)"""
    subscriptions_changed: Callable[[], None]


class BrokerSession:
    """One broker. Everything it does is repeated until it is there; nothing it loses is lost."""

    def __init__(self, address: str, dialer: Dialer, face: Face) -> None:
        self.address, self._dialer, self._face = address, dialer, face
        self.stdio_prefixes: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._registered = False
        self._broker = ""  # instance of the broker that registered us last; until the first has, none is shown anything new
        self._heard_s = 0.0  # loop time of the last word of this broker
        self._suspend_detector = SuspendDetector()
        self._sockets: dict[str, Socket] = {}  # main, bulk, events, stdio
        self._addresses: dict[str, str] = {}
        self._unsent = UnsentReplies(address)
        self._moved = asyncio.Event()  # something happened: heartbeat soon
        self._bulk_used_s = 0.0
        self._bulk_owed: set[bytes] = set()  # refs of commands that are to be answered over the bulk session
        self._leaving: Socket | None = None  # a bulk session that has said goodbye
        self._refused, self._tell_again_s = "", 0.0  # what the broker refused us for when that was last said, when to say it again

    # -- life -----------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the session up until cancelled."""
        self._suspend_detector.watch()
        try:
            while True:
                try:
                    hello = await say_hello(self.address, self._dialer)
                    self._addresses = broker_addresses(self.address, hello)
                    self._open()
                except OSError as why:
                    log.error("broker %s: %s; tried again in %.0f s", self.address, why, DIAL_AGAIN_S)
                    self._close()
                    await asyncio.sleep(DIAL_AGAIN_S)
                    continue
                await self._beat()
                log.warning("broker %s: silent for %.0f s; dialling again", self.address, GUEST_DOWN_S)
                self._close()
        finally:
            self._suspend_detector.close()
            self._close()

    def _open(self) -> None:
        # a broker that was restarted knows nothing of us: register as soon as the connection stands again
        self._sockets["main"] = self._dialer.dial("commands", self._addresses["workers"], self._burst, self._register)
        self._sockets["events"] = self._dialer.dial("events", self._addresses["events_in"])
        self._heard_s = self._loop.time()

    def _close(self) -> None:
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
        self._close_leaving()
        self._registered = False
        self.stdio_prefixes = []
        self._face.subscriptions_changed()

    def _register(self) -> None:
        if "main" in self._sockets:
            self._sockets["main"].send([session.REGISTER, pack(self._face.register("main", not self._broker))])

    async def _beat(self) -> None:
        """Heartbeats until the broker has been silent for too long."""
        while True:
            self._moved.clear()
            if not self._registered:
                self._register()
            else:
                self._send_heartbeat()
            interval_s = HEARTBEAT_BUSY_S if not self._registered else HEARTBEAT_IDLE_S
            try:
                async with asyncio.timeout(interval_s):
                    await asyncio.sleep(HEARTBEAT_BUSY_S)
                    await self._moved.wait()
            except TimeoutError:
                pass  # nothing moved: the idle interval is over
            self._close_idle_bulk()
            if self._loop.time() - self._heard_s > GUEST_DOWN_S:
                return

    def _send_heartbeat(self) -> None:
        known = zlib.crc32(b"\n".join(sorted(self.stdio_prefixes)))
        self._sockets["main"].send([session.HEARTBEAT, pack(Heartbeat(**{**_fields(self._face.heartbeat()), "stdio_hash": known}))])

    def moved(self) -> None:
        """Something changed: the next heartbeat comes after HEARTBEAT_BUSY_S."""
        self._moved.set()

    def goodbye(self) -> None:
        if self._registered:
            self._sockets["main"].send([session.GOODBYE, pack(session.Goodbye(reason="worker stopped"))])

    @property
    def replies_dropped(self) -> int:
        """Replies that this broker did not take in time."""
        return self._unsent.dropped

    # -- incoming -------------------------------------------------------------------------------------------------------------

    def _burst(self, burst: list[list[bytes]]) -> None:
        """A burst of messages. A command may have waited in our socket while we stood still: its time is counted from then."""
        now_s = self._loop.time()
        received_s = self._suspend_detector.received_s(now_s)
        if now_s - self._heard_s > GUEST_DOWN_S:
            self._registered = False  # frozen or cut off for too long: nothing new until registered again
            self._register()
        # cancels first: a command given up while both waited in the socket is not carried out
        for frames in sorted(burst, key=_cancels_first):
            try:
                self._message(frames, received_s)
            except CorralError as why:
                log.warning("broker %s: message dropped: %s", self.address, why)
            except Exception:  # a bug that one message meets must not cost those behind it
                log.exception("broker %s: message of %d frames dropped", self.address, len(frames))

    def _message(self, frames: list[bytes], received_s: float) -> None:
        match frames:
            case [session.COMMAND, ref, header_frame, args_frame]:
                header = decode_command_header([header_frame, args_frame])
                if not self._registered:
                    self._turn_away(ref, header)
                    return
                self._heard_s = self._loop.time()
                self._moved.set()
                if _is_bulk(header.op):
                    self._bulk_owed.add(ref)
                self._face.take(Route(self, ref, self._broker), header, args_frame, received_s)
            case [session.REGISTERED, body]:
                self._heard_s = self._loop.time()
                self._welcome(unpack(Registered, body))
            case [session.HEARTBEAT_ACK, body]:
                self._heard_s = self._loop.time()
                if self._registered:
                    self._send_unsent()
                prefixes = unpack(HeartbeatAck, body).stdio_prefixes
                if prefixes is not None:
                    self._subscriptions_changed(prefixes)
            case [session.PLEASE_REGISTER, _]:
                self._register()
            case [session.REFUSED, body]:
                refused = unpack(Refused, body)
                self._registered = False
                self._tell_refusal(f"{refused.code}: {refused.message}")
            case _:
                log.warning("broker %s: message of %d frames dropped", self.address, len(frames))

    def _tell_refusal(self, why: str) -> None:
        """Says so once a minute at most, where it stays the same: a worker may wait for days until its key is accepted."""
        now_s = self._loop.time()
        if why != self._refused or now_s >= self._tell_again_s:
            self._refused, self._tell_again_s = why, now_s + TELL_AGAIN_S
            log.error("broker %s refused this worker: %s", self.address, "".join(one if one.isprintable() else "?" for one in why[:1_000]))

    def _turn_away(self, ref: bytes, header: CommandHeader) -> None:
        """A command from before the session stood (again) is answered, not carried out: it may be long given up."""
        log.warning("broker %s: %s %s came while not registered; not carried out", self.address, header.op, header.id)
        reply_header = ReplyHeader(id=header.id, guest=header.guest)
        refusal = error("guest_unreachable", "the worker was not registered when it came; not carried out", sent=False)
        self._sockets["main"].send([session.REPLY, ref, *encode_reply(reply_header, refusal)])

    def _welcome(self, welcome: Registered) -> None:
        if not self._registered:
            log.info("broker %s: registered with %s", self.address, welcome.broker)
        self._registered = True
        first = not self._broker
        if welcome.broker != self._broker:
            self._broker = welcome.broker
            self._bulk_owed.clear()  # by the broker's forerunner, and nobody can answer that any more
            self._unsent.clear()
            if "bulk" in self._sockets:  # registered with the broker's forerunner: what is sent over it would be dropped
                self._sockets.pop("bulk").close()
        self._subscriptions_changed(welcome.stdio_prefixes)
        self._face.registered(welcome, first)
        if first:
            self._send_heartbeat()  # says where the journal stands by now
        self._send_unsent()

    def _subscriptions_changed(self, prefixes: list[bytes]) -> None:
        self.stdio_prefixes = sorted(prefixes)
        if prefixes and "stdio" not in self._sockets:
            try:
                self._sockets["stdio"] = self._dialer.dial("stdio", self._addresses["stdio_in"])
            except OSError as why:
                self.stdio_prefixes = []  # the broker sees in the next heartbeat that they are not known, and sends them again
                log.error("broker %s: output is not published yet: %s", self.address, why)
        elif not prefixes and "stdio" in self._sockets:
            self._sockets.pop("stdio").close()
        self._face.subscriptions_changed()

    # -- outgoing -------------------------------------------------------------------------------------------------------------

    def reply(self, route: Route, header: CommandHeader, epoch: str, body: bytes) -> None:
        """Sends a reply, over the bulk session where the op's replies are full of bytes."""
        if route.broker != self._broker:
            return  # whoever asked has asked its successor again, or does not wait any more
        self._bulk_owed.discard(route.ref)
        frames = [session.REPLY, route.ref, pack(ReplyHeader(id=header.id, guest=header.guest, epoch=epoch)), body]
        name = "main"
        if _is_bulk(header.op) and self._registered and self._leaving is None:
            try:
                self._open_bulk()
                name = "bulk"
            except OSError as why:  # nobody waits in vain for it: the reply goes over the main session
                log.error("broker %s: no second connection: %s", self.address, why)
        socket = self._sockets.get(name)
        if not self._registered or socket is None or not socket.send(frames):
            self._unsent.keep(frames, self._loop.time())

    def _send_unsent(self) -> None:
        self._unsent.send_by(self._sockets["main"].send)

    def _open_bulk(self) -> None:
        self._bulk_used_s = self._loop.time()
        if "bulk" not in self._sockets:
            # also when the connection stands again after a break: what is sent over it before the broker knows it is dropped
            self._sockets["bulk"] = self._dialer.dial("bulk", self._addresses["workers"], self._bulk_burst, self._register_bulk)
            self._register_bulk()

    def _register_bulk(self) -> None:
        if "bulk" in self._sockets:
            self._sockets["bulk"].send([session.REGISTER, pack(self._face.register("bulk", False))])

    def _bulk_burst(self, burst: list[list[bytes]]) -> None:
        for frames in burst:
            if frames[0] == session.COMMAND:  # one that is full of bytes
                self._bulk_used_s = self._loop.time()
                self._burst([frames])
            elif frames[0] == session.PLEASE_REGISTER:
                self._register_bulk()
            elif frames[0] == session.REFUSED:
                log.warning("broker %s refused the bulk session", self.address)

    def _close_idle_bulk(self) -> None:
        """One that owes an answer is not idle, however long nothing came: the broker takes its end for the loss of that answer."""
        if "bulk" in self._sockets and not self._bulk_owed and self._loop.time() - self._bulk_used_s > BULK_IDLE_S:
            self._leaving = self._sockets.pop("bulk")
            self._leaving.send([session.GOODBYE, pack(session.Goodbye(reason="idle"))])
            self._loop.call_later(BULK_LEAVES_S, self._close_leaving)  # until then answers go over the main session
            give_back()

    def _close_leaving(self) -> None:
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.close()

    def publish_event(self, record: EventRecord) -> None:
        if "events" in self._sockets and self._broker:
            self._sockets["events"].send([record.topic, record.header, record.payload])

    def publish_stdio(self, frames: list[bytes]) -> None:
        if "stdio" in self._sockets:
            self._sockets["stdio"].send(frames)


def _fields(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def _is_bulk(op: str) -> bool:
    """Whether its replies go over the bulk session; False for an op that is refused as unknown."""
    return op in OPS and OPS[op].bulk


def _cancels_first(frames: list[bytes]) -> bool:
    return not (frames[0] == session.COMMAND and len(frames) == 4 and b"\xa2op\xa6cancel" in frames[2])
