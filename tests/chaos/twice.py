"""A wire that sends every command twice, as a network that repeats messages would."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import zmq

from corral.channel import Link, OnMessage, ZmqWire


class TwiceWire:
    """ZeroMQ, but for what a DEALER sends: that goes out two times."""

    def __init__(self) -> None:
        self._wire = ZmqWire()
        self.close = self._wire.close

    def dial(
        self,
        kind: int,
        address: str,
        *,
        on_message: OnMessage,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        receive_hwm: int = 0,
    ) -> Link:
        link = self._wire.dial(kind, address, on_message=on_message, on_up=on_up, on_down=on_down, receive_hwm=receive_hwm)
        return _TwiceLink(link) if kind == zmq.DEALER else link


class _TwiceLink:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.subscribe, self.unsubscribe = link.subscribe, link.unsubscribe
        self.pause, self.resume, self.close = link.pause, link.resume, link.close

    def send(self, frames: Sequence[bytes]) -> bool:
        return self._link.send(frames) and self._link.send(frames)
