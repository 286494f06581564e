"""The second connection of a worker, for messages full of bytes: it stays while an answer is owed over it, and leaves with a goodbye."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from corral_schemas import session
from corral_schemas.frames import CommandHeader, encode_command, pack
from corral_schemas.stdio import ReadStdioArgs
from corral_testkit.bounded import run
from corral_worker.uplink.session import BULK_IDLE_S, BULK_LEAVES_S, BrokerSession, Face, Route

READ = ReadStdioArgs(container="quiet", stdout=0, wait_ms=60_000)


class Line:
    """One socket: what was sent over it, and whether it is closed."""

    def __init__(self, purpose: str) -> None:
        self.purpose, self.sent, self.closed = purpose, list[list[bytes]](), False

    def send(self, frames: list[bytes]) -> bool:
        assert not self.closed
        self.sent.append(frames)
        return True

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    @property
    def kinds(self) -> list[bytes]:
        return [frames[0] for frames in self.sent]


class Rig:
    """A registered session, its sockets, and what it was asked; `later` moves its clock."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.asked: list[tuple[Route, CommandHeader]] = []
        face = Face(
            register=lambda role, first: session.Register(guest="g1", worker="w1", role=role),
            heartbeat=lambda: session.Heartbeat(epoch="e1", seq=0),
            take=lambda route, header, args, received_s: self.asked.append((route, header)),
            registered=lambda welcome, first: None,
            subscriptions_changed=lambda: None,
        )
        self.session = BrokerSession("tcp://b:7700", cast(Any, self), face)
        self.session._addresses = {"workers": "w", "events_in": "e"}
        self.now_s = self.session._loop.time()
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.session._loop = cast(Any, self)
        self.session._open()
        self.welcome("b1")

    def dial(self, purpose: str, *_: Any) -> Line:
        self.lines.append(Line(purpose))
        return self.lines[-1]

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.due.append((self.now_s + delay_s, call))

    def later(self, seconds: float) -> None:
        """Time passes, with a heartbeat each second that the broker answers."""
        for _ in range(round(seconds)):
            self.now_s += 1
            self.session._burst([[session.HEARTBEAT_ACK, pack(session.HeartbeatAck())]])
            self.session._close_idle_bulk()
            for due in [due for due in self.due if due[0] <= self.now_s]:
                self.due.remove(due)
                due[1]()

    def welcome(self, broker: str) -> None:
        self.session._burst([[session.REGISTERED, pack(session.Registered(broker=broker, heartbeat_ms=5_000))]])

    def read(self, number: int) -> None:
        header = CommandHeader(id=f"r{number}", guest="g1", op="read_stdio", timeout_ms=90_000)
        self.session._burst([[session.COMMAND, b"ref%d" % number, *encode_command(header, READ)]])

    def answer(self, number: int) -> None:
        route, header = self.asked[number]
        route.session.reply(route, header, "e1", b"")

    @property
    def bulks(self) -> list[Line]:
        return [line for line in self.lines if line.purpose == "bulk"]

    def replies(self) -> list[bytes]:
        return [frames[1] for line in self.lines for frames in line.sent if frames[0] == session.REPLY]


def in_loop(check: Callable[[Rig], None]) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        check(Rig())

    run(work())


@pytest.mark.guarantee(25)
def test_a_bulk_session_that_owes_an_answer_is_not_idle_however_long_nothing_comes() -> None:
    def check(rig: Rig) -> None:
        rig.read(0)
        rig.answer(0)
        rig.read(1)
        rig.later(3_600)
        [bulk] = rig.bulks
        assert not bulk.closed
        rig.answer(1)
        assert bulk.kinds == [session.REGISTER, session.REPLY, session.REPLY]
        rig.later(BULK_IDLE_S + 1)
        rig.later(BULK_LEAVES_S)
        assert bulk.closed

    in_loop(check)


def test_an_idle_bulk_session_says_goodbye_before_it_closes_and_what_comes_meanwhile_is_answered_over_the_main_one() -> None:
    def check(rig: Rig) -> None:
        rig.read(0)
        rig.answer(0)
        rig.later(BULK_IDLE_S + 1)
        [first] = rig.bulks
        assert (first.kinds[-1], first.closed) == (session.GOODBYE, False)
        rig.read(1)
        rig.answer(1)
        assert rig.lines[0].kinds[-1] == session.REPLY
        rig.later(BULK_LEAVES_S)
        assert (rig.bulks, first.closed) == ([first], True)
        rig.read(2)
        rig.answer(2)
        _, second = rig.bulks
        assert second.kinds == [session.REGISTER, session.REPLY]
        rig.later(BULK_IDLE_S + 1)
        rig.session._close()
        assert second.closed

    in_loop(check)


def test_what_an_earlier_broker_asked_is_not_answered_to_the_one_after_it() -> None:
    def check(rig: Rig) -> None:
        rig.read(0)
        rig.welcome("b2")
        rig.read(1)
        rig.answer(0)
        assert rig.replies() == []
        rig.answer(1)
        assert rig.replies() == [b"ref1"]
        rig.later(BULK_IDLE_S + 1)
        assert rig.bulks[-1].kinds[-1] == session.GOODBYE, "the first read is owed to nobody any more"

    in_loop(check)
