"""Readers of a process's output at the worker's end of a shim's connection: each is told in time, and none stays after its wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from corral_testkit.bounded import run
from corral_testkit.shim_messages import Observer
from corral_worker.shims.shim_link import ARMED_S, ShimLink


class Shim:
    """The other end: remembers what it was asked to tell."""

    alive = True

    def __init__(self) -> None:
        self.armed: list[dict[str, Any]] = []
        self.link = ShimLink("i1", Observer())

    async def hello(self) -> None:
        await self.link.hello(self, 1, "g1", newborn=True)

    def send(self, message: dict[str, Any], blob: bytes = b"") -> None:
        if message["t"] == "arm":
            self.armed.append(message)

    def close(self) -> None:
        """Nothing to close."""

    def grows(self, to: int, *, exited: bool = False) -> None:
        streams = {"1": {"offset": to, "open": True}, "2": {"offset": 0, "open": True}}
        self.link.message({"t": "grew", "process": "p1", "streams": streams, "exited": exited}, b"")

    def reader(self, after: int, *, exited: bool = False) -> asyncio.Future[None]:
        return self.link.growth("p1", {"1": after, "2": 0}, exited=exited)

    @property
    def waiting(self) -> int:
        return sum(len(readers.waiting) for readers in self.link._growth.values())


def with_shim(check: Callable[[Shim], Awaitable[None]]) -> None:
    async def work() -> None:
        shim = Shim()
        await shim.hello()
        await check(shim)

    run(work())


def test_nothing_stays_of_readers_whose_wait_is_over_though_their_process_is_silent() -> None:
    async def check(shim: Shim) -> None:
        for _ in range(100):
            readers = [shim.reader(0) for _ in range(3)]
            assert shim.waiting == 3
            for reader in readers:
                reader.cancel()
            await asyncio.sleep(0)
            assert (shim.waiting, shim.link._growth) == (0, {})

    with_shim(check)


def test_a_crowd_of_readers_at_one_place_asks_the_shim_once() -> None:
    async def check(shim: Shim) -> None:
        readers = [shim.reader(10) for _ in range(1_000)]
        assert [one["after"] for one in shim.armed] == [{"1": 10, "2": 0}]
        shim.grows(11)
        assert all(reader.done() for reader in readers)
        await asyncio.sleep(0)
        assert shim.link._growth == {}

    with_shim(check)


def test_a_reader_further_back_or_who_waits_for_the_exit_too_is_asked_for_anew() -> None:
    async def check(shim: Shim) -> None:
        shim.reader(10, exited=True)
        shim.reader(5, exited=True)
        waits_for_exit = shim.reader(20)
        assert [(one["after"]["1"], one["exited"]) for one in shim.armed] == [(10, True), (5, True), (5, False)]
        shim.grows(7, exited=True)
        assert waits_for_exit.done()
        assert (shim.waiting, shim.armed[-1]["after"]["1"]) == (1, 10), "the reader at 10 waits on, and is asked for"

    with_shim(check)


def test_word_of_growth_that_was_sent_before_a_reader_came_does_not_leave_it_unheard() -> None:
    async def check(shim: Shim) -> None:
        first, second = shim.reader(0), shim.reader(10)  # the shim has told of 10 bytes already, and of no more
        assert len(shim.armed) == 1
        shim.grows(10)
        assert (first.done(), second.done()) == (True, False)
        assert shim.armed[-1]["after"]["1"] == 10
        shim.grows(20)
        assert second.done()

    with_shim(check)


def test_a_shim_whose_word_got_lost_is_asked_again_by_the_next_reader_a_second_later() -> None:
    async def check(shim: Shim) -> None:
        shim.reader(0)
        shim.link._growth["p1"].armed_s -= ARMED_S
        shim.reader(0)
        assert len(shim.armed) == 2

    with_shim(check)
