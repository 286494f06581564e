"""Replies that a broker does not take wait, so many and no more; what is dropped is counted, said, and nothing else is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from corral_schemas import session
from corral_schemas.frames import CommandHeader, encode_command, pack
from corral_schemas.queries import Nothing
from corral_testkit.bounded import run
from corral_worker.uplink.session import BrokerSession, Face, Route
from corral_worker.uplink.unsent_replies import REPLIES_KEPT_MAX

WELCOME = [session.REGISTERED, pack(session.Registered(broker="b1", heartbeat_ms=5_000))]
ACK = [session.HEARTBEAT_ACK, pack(session.HeartbeatAck())]


class Line:
    """The session's dialer, and its one socket: takes what is sent while `open`."""

    def __init__(self) -> None:
        self.open = True
        self.sent: list[list[bytes]] = []

    def dial(self, *_: Any) -> Line:
        return self

    def send(self, frames: list[bytes]) -> bool:
        if self.open:
            self.sent.append(frames)
        return self.open

    def close(self) -> None:
        """Nothing to close."""

    @property
    def replies(self) -> list[bytes]:
        return [frames[1] for frames in self.sent if frames[0] == session.REPLY]


def opened(line: Line) -> BrokerSession:
    """Registered."""

    def take(route: Route, header: CommandHeader, args: bytes, received_s: float) -> None:
        route.session.reply(route, header, "e1", b"")

    face = Face(
        register=lambda role, first: session.Register(guest="g1", worker="w1", role=role),
        heartbeat=lambda: session.Heartbeat(epoch="e1", seq=0),
        take=take,
        registered=lambda welcome, first: None,
        subscriptions_changed=lambda: None,
    )
    made = BrokerSession("tcp://b:7700", cast(Any, line), face)
    made._addresses = {"workers": "w", "events_in": "e"}
    made._open()
    made._burst([WELCOME])
    return made


def ref(number: int) -> bytes:
    return b"%08d" % number


def ask(asked: BrokerSession, count: int) -> None:
    for number in range(count):
        header = CommandHeader(id=f"r{number}", guest="g1", op="list", timeout_ms=1_000)
        asked._burst([[session.COMMAND, ref(number), *encode_command(header, Nothing())]])


def test_beyond_what_is_kept_the_oldest_replies_are_dropped_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        line = Line()
        asked = opened(line)
        line.open = False
        with caplog.at_level(logging.WARNING):
            ask(asked, REPLIES_KEPT_MAX)
            assert (asked.replies_dropped, caplog.messages) == (0, [])
            ask(asked, 3)
        assert asked.replies_dropped == 3
        assert len(caplog.messages) == 1, "once a second at most"
        assert "takes no replies" in caplog.messages[0]
        line.open = True
        asked._burst([ACK])
        assert line.replies == [*(ref(number) for number in range(3, REPLIES_KEPT_MAX)), *(ref(number) for number in range(3))]

    run(work())


def test_replies_that_waited_go_out_with_the_next_word_of_the_broker_and_none_twice() -> None:
    async def work() -> None:
        line = Line()
        asked = opened(line)
        line.open = False
        ask(asked, 5)
        asked._burst([ACK])  # still full: they are kept
        line.open = True
        asked._burst([ACK])
        asked._burst([ACK, WELCOME])
        assert line.replies == [ref(number) for number in range(5)]
        assert asked.replies_dropped == 0
        await asyncio.sleep(0)

    run(work())
