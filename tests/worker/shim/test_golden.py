"""Messages that other versions of Corral sent, as recorded: today's worker and shims must read every one of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from corral_testkit.bounded import run
from corral_testkit.shim_messages import INCOMING, OUTGOING, Observer, checked, readable
from corral_worker.reconcile.notices import exit_at_rest, exit_from_notice
from corral_worker.shim.base.wire import VERSION
from corral_worker.shim.messages import NOTICES, REQUESTS
from corral_worker.shims.shim_link import ACKNOWLEDGE_LATER_S, ShimLink, ShimVersionError

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.jsonl"))
OLDEST, NEWEST = GOLDEN / "version-1-before-it-had-a-number.jsonl", GOLDEN / f"version-{VERSION}.jsonl"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_line_can_be_read_today(file: Path) -> None:
    for line in lines(file):
        readable(line["message"], INCOMING if line["to"] == "worker" else OUTGOING)


def test_every_message_is_in_the_oldest_lines() -> None:
    messages = [line["message"] for line in lines(OLDEST)]
    assert {one["t"] for one in messages} == {*INCOMING, *OUTGOING, "request"}
    assert {one["step"] for one in messages if one["t"] == "request"} == set(REQUESTS)


def test_the_newest_lines_hold_nothing_that_is_not_defined() -> None:
    for line in lines(NEWEST):
        checked(line["message"], INCOMING if line["to"] == "worker" else OUTGOING)
    told = [line["message"].get("version") for line in lines(NEWEST) if line["message"]["t"] in ("hello", "state", "forked")]
    assert set(told) == {VERSION}


class Stream:
    """A connection to a shim that answers by itself nothing."""

    alive = True

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any], blob: bytes = b"") -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.alive = False


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_link_of_today_takes_what_those_shims_said(file: Path) -> None:
    async def work() -> None:
        said = [line["message"] for line in lines(file) if line["to"] == "worker"]
        observer, stream = Observer(), Stream()
        link = ShimLink("i1", observer)
        await link.hello(stream, 3, "g1", newborn=True)
        asked = {one["id"]: asyncio.ensure_future(link.request(one["id"], one["step"])) for one in said if one["t"] == "response"}
        await asyncio.sleep(0)
        for message in said:
            if message["t"] in ("response", "grew", "pong", *NOTICES):
                link.message(message, b"")
        assert [notice for _, notice in observer.notices] == [one for one in said if one["t"] in NOTICES]
        assert {key: await answer for key, answer in asked.items()} == {one["id"]: one for one in said if one["t"] == "response"}
        exits = [exit_from_notice(notice) for _, notice in observer.notices if notice["t"] == "exit"]
        assert exits and all(one.exited_ns > one.started_ns > 0 for one in exits)

    run(work())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_state_of_those_shims_is_taken_over(file: Path) -> None:
    async def work() -> None:
        state = next(one["message"] for one in lines(file) if one["message"]["t"] == "state" and one["message"]["processes"])
        stream = Stream()
        link = ShimLink("i1", Observer())
        asked = asyncio.ensure_future(link.hello(stream, 3, "g1", newborn=False))
        await asyncio.sleep(0)
        link.message(state, b"")
        await asked
        assert stream.sent == [{"t": "hello", "generation": 3, "guest": "g1", "version": VERSION}]
        assert all(link.knows(one["id"], one["step"]) for one in state["responses"])
        for process in state["processes"]:
            if process["exit"] is not None:
                assert exit_at_rest(process["exit"], process["streams"]).type in ("exited", "signalled")

    run(work())


def test_a_shim_of_a_higher_version_is_not_spoken_to() -> None:
    async def work() -> None:
        stream = Stream()
        link = ShimLink("i1", Observer())
        asked = asyncio.ensure_future(link.hello(stream, 3, "g1", newborn=False))
        await asyncio.sleep(0)
        state = {"t": "state", "version": VERSION + 1, "something": "else"}
        link.message(state, b"")
        with pytest.raises(ShimVersionError, match=f"version {VERSION + 1} of the shim protocol, this worker version {VERSION}"):
            await asked
        assert (stream.alive, link.state) == (False, {})

    run(work())


def test_a_notice_that_cannot_be_read_here_is_left_with_its_shim_for_a_worker_that_can() -> None:
    async def work() -> None:
        observer, stream = Observer(), Stream()
        link = ShimLink("i1", observer)
        await link.hello(stream, 3, "g1", newborn=True)
        link.message({"t": "something new", "n": 1}, b"")
        link.message({"t": "oom", "n": 2, "count": "many"}, b"")
        await asyncio.sleep(2 * ACKNOWLEDGE_LATER_S)
        assert (observer.notices, [one["t"] for one in stream.sent]) == ([], ["hello"])

    run(work())
