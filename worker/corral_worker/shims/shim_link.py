"""The worker's end of the connection to one shim: requests and responses, notices, growth of output."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from corral_worker.shim.base.wire import VERSION
from corral_worker.shim.messages import NOTICES, Notice

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0
ACKNOWLEDGE_LATER_S = 0.02
"""Acknowledgements are in no hurry: they ride with the next message, so that a shim is not woken for each of them."""
ARMED_S = 1.0
"""So long a shim that was asked to tell of growth is not asked again for a reader who needs no more: its word may get lost."""
Body = dict[str, Any]


class ShimGoneError(Exception):
    """The shim's socket closed: what it was asked is known only from what it left on disk."""


class ShimRefusedError(ShimGoneError):
    """The shim has heard a higher generation than ours."""

    def __init__(self, instance: str, generation: int) -> None:
        super().__init__(f"{instance}: refused: generation {generation} has the shim")
        self.generation = generation


class ShimVersionError(Exception):
    """The shim was started by a newer version of Corral, whose messages mean something else: this worker must not speak to it."""

    def __init__(self, instance: str, version: int) -> None:
        super().__init__(
            f"the shim of container {instance} speaks version {version} of the shim protocol, this worker version {VERSION}: "
            "start a worker of the newer Corral again, or delete the container with it first; nothing was changed"
        )
        self.instance, self.version = instance, version


class ShimObserver(Protocol):
    """Who is told what shims notice, and that one is gone."""

    def notice(self, instance: str, notice: Notice) -> None:
        """A notice came. It comes again until it is acknowledged."""
        ...

    def gone(self, instance: str) -> None:
        """The connection to the shim of that instance ended."""
        ...


class Stream(Protocol):
    """The connection below a link: real or simulated. Tells the link of messages and of its end."""

    @property
    def alive(self) -> bool: ...

    def send(self, message: Body, blob: bytes = b"") -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class _Reader:
    """Who waits for more than `after` of the streams."""

    after: dict[str, int]
    exited: bool
    future: "asyncio.Future[None]"


@dataclass
class _Readers:
    """Those of one process, as a set in their order, and what its shim was asked to tell."""

    waiting: dict[_Reader, None] = field(default_factory=dict)
    armed: dict[str, int] | None = None
    armed_exited: bool = True
    armed_s: float = 0.0

    def is_armed_for(self, reader: _Reader, now_s: float) -> bool:
        """What the shim was asked for a moment ago comes as early as this reader needs it."""
        armed = self.armed
        if armed is None or now_s >= self.armed_s + ARMED_S or (self.armed_exited and not reader.exited):
            return False
        return all(stream in armed and armed[stream] <= offset for stream, offset in reader.after.items())


class ShimLink:
    """One connection to one shim. Requests are joined by (request id, step): asking again is safe."""

    def __init__(self, instance: str, observer: ShimObserver) -> None:
        self.instance = instance
        self.state: Body = {}
        """The shim's answer to hello."""
        self.closing = False
        """Its container is being deleted: its end is expected."""
        self._observer: ShimObserver | None = observer
        self._stream: Stream | None = None
        self._hello: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._requests: dict[tuple[str, str], asyncio.Future[Body]] = {}
        self._known: dict[tuple[str, str], Body | None] = {}  # what it said at hello: response, or None while pending
        self._growth: dict[str, _Readers] = {}  # process instance -> who waits for its output; none where nobody does
        self._acknowledgements: list[Body] = []  # to be sent with the next message, or a little later
        self._later: asyncio.TimerHandle | None = None

    async def hello(self, stream: Stream, generation: int, guest: str, *, newborn: bool) -> None:
        """Says hello over a new connection. Raises ShimGoneError when refused or closed, ShimVersionError, TimeoutError.

        A newborn shim has nothing to tell: requests may follow at once.
        """
        self._stream = stream
        stream.send({"t": "hello", "generation": generation, "guest": guest, "version": VERSION})
        if newborn:
            return
        try:
            await asyncio.wait_for(asyncio.shield(self._hello), HELLO_TIMEOUT_S)
        except (TimeoutError, ShimGoneError, ShimVersionError):
            stream.close()
            raise

    @property
    def alive(self) -> bool:
        return self._stream is not None and self._stream.alive

    def _send(self, message: Body, blob: bytes = b"") -> None:
        if self._stream is None or not self._stream.alive:
            raise ShimGoneError(self.instance)
        self._send_acknowledgements()
        self._stream.send(message, blob)

    def _send_acknowledgements(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        waiting, self._acknowledgements = self._acknowledgements, []
        if self._stream is not None and self._stream.alive:
            for message in waiting:
                self._stream.send(message)

    def _send_soon(self, message: Body) -> None:
        self._acknowledgements.append(message)
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(ACKNOWLEDGE_LATER_S, self._send_acknowledgements)

    def knows(self, request_id: str, step: str) -> bool:
        """Whether the shim had this request when we connected."""
        return (request_id, step) in self._known

    async def request(self, request_id: str, step: str, blob: bytes = b"", **body: Any) -> Body:
        """Has a step carried out at most once; returns the response ({"ok": …} or {"error": …}). Raises ShimGoneError."""
        key = (request_id, step)
        future = self._requests.get(key)
        if future is None:
            known = self._known.get(key)
            if known is not None:
                return known
            future = self._requests[key] = asyncio.get_running_loop().create_future()
            try:
                self._send({"t": "request", "id": request_id, "step": step, **body}, blob)
            except ShimGoneError:
                del self._requests[key]
                raise
        return await asyncio.shield(future)

    def acknowledge(self, request_id: str, step: str) -> None:
        """The response is in the journal: the shim may forget it."""
        self._known.pop((request_id, step), None)
        self._send_soon({"t": "ack_response", "id": request_id, "step": step})
        if self.closing:  # the shim waits for nothing else
            self._send_acknowledgements()

    def acknowledge_notice(self, number: int) -> None:
        """What the notice told is in the journal: the shim may forget it."""
        self._send_soon({"t": "ack", "n": number})

    def tell(self, message: Body) -> None:
        """Sends what needs no answer; lost with the shim, as it may be."""
        if self.alive:
            self._send(message)

    # -- growth of output ---------------------------------------------------------------------------------------------------

    def growth(self, process: str, after: dict[str, int], *, exited: bool) -> "asyncio.Future[None]":
        """Done when a stream of the process has more than `after` says, or ended, or the shim is gone, or the process ended.

        `exited`: that it ended is known already.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.alive:
            future.set_result(None)
            return future
        reader, readers = _Reader(after, exited, future), self._growth.setdefault(process, _Readers())
        readers.waiting[reader] = None
        future.add_done_callback(lambda _: self._forget(process, reader))
        if not readers.is_armed_for(reader, asyncio.get_running_loop().time()):
            self._arm(process, readers)
        return future

    def _forget(self, process: str, reader: _Reader) -> None:
        """It was told, or waits no more: of a silent process nothing else would ever remove it."""
        readers = self._growth.get(process)
        if readers is not None:
            readers.waiting.pop(reader, None)
            if not readers.waiting:
                del self._growth[process]

    def _arm(self, process: str, readers: _Readers) -> None:
        least: dict[str, int] = {}
        for reader in readers.waiting:
            for stream, offset in reader.after.items():
                least[stream] = min(offset, least.get(stream, offset))
        readers.armed, readers.armed_exited = least, all(reader.exited for reader in readers.waiting)
        readers.armed_s = asyncio.get_running_loop().time()
        self.tell({"t": "arm", "process": process, "after": least, "exited": readers.armed_exited})

    def _grew(self, message: Body) -> None:
        process = str(message["process"])
        readers = self._growth.get(process)
        if readers is None:
            return
        streams, waiting = message["streams"], dict[_Reader, None]()
        for reader in readers.waiting:
            if reader.future.done():
                continue
            moved = (message.get("exited") and not reader.exited) or any(
                streams.get(stream, {}).get("offset", 0) > offset or not streams.get(stream, {}).get("open", True)
                for stream, offset in reader.after.items()
            )
            if moved or not streams:
                reader.future.set_result(None)
            else:
                waiting[reader] = None
        readers.waiting, readers.armed = waiting, None
        if waiting:
            self._arm(process, readers)
        else:
            del self._growth[process]

    # -- incoming -------------------------------------------------------------------------------------------------------------

    def message(self, message: Body, blob: bytes) -> None:
        """What the stream brings."""
        kind = message.get("t")
        if kind == "response":
            key = (str(message["id"]), str(message["step"]))
            future = self._requests.pop(key, None)
            if future is not None and not future.done():
                future.set_result(message)
        elif kind == "grew":
            self._grew(message)
        elif kind == "state" and int(message.get("version", 1)) > VERSION:
            self._hello.set_exception(ShimVersionError(self.instance, int(message["version"])))
            self._hello.exception()  # nobody may be waiting for it
            if self._stream is not None:
                self._stream.close()
        elif kind == "state":
            for response in message["responses"]:
                self._known[response["id"], response["step"]] = response
            for pending in message["pending"]:
                self._known.setdefault((pending["id"], pending["step"]), None)
            self.state = message
            self._hello.set_result(message)
        elif kind == "refused":
            self._hello.set_exception(ShimRefusedError(self.instance, int(message["generation"])))
            self._hello.exception()  # nobody may be waiting for it
        elif kind != "pong":
            self._notice(message)

    def _notice(self, message: Body) -> None:
        """One that cannot be read here is kept by its shim, unacknowledged, for a worker that can read it."""
        known = NOTICES.get(str(message.get("t")))
        if known is None:
            log.warning("shim of %s says %r, which is unknown here", self.instance, message.get("t"))
            return
        try:
            notice: Notice = msgspec.convert(message, known)
        except msgspec.ValidationError as why:
            log.error("shim of %s sent a notice that cannot be read: %s: %s", self.instance, why, message)
            return
        if self._observer is not None:
            self._observer.notice(self.instance, notice)

    def closed(self) -> None:
        """The stream ended."""
        gone = ShimGoneError(self.instance)
        if not self._hello.done():
            self._hello.set_exception(gone)
            self._hello.exception()  # nobody may be waiting for it
        for future in self._requests.values():
            if not future.done():
                future.set_exception(gone)
                future.exception()  # its asker may be gone as well
        self._requests.clear()
        for readers in self._growth.values():
            for reader in readers.waiting:
                if not reader.future.done():
                    reader.future.set_result(None)
        self._growth.clear()
        self._acknowledgements.clear()
        if self._observer is not None:
            self._observer.gone(self.instance)

    def close(self) -> None:
        """Ends the connection without a word; the shim goes on."""
        self._observer = None
        self._send_acknowledgements()
        if self._stream:
            self._stream.close()
