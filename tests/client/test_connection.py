"""Commands over real sockets, to a broker that is silent, busy, killed or one of several."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import corral
from corral_schemas.commands import ContainerTarget
from corral_schemas.errors import error
from corral_schemas.stdio import Done
from corral_testkit.bounded import run
from corral_testkit.fake_broker import Call, FakeBroker, Outcome
from corral_testkit.fake_guest import FakeGuest

TARGET = ContainerTarget(container="c")


def test_a_broker_that_answers_is_entered_and_left_without_a_trace(broker: FakeBroker) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            assert client.address == broker.address
            assert client.hello.instance == broker.instance
            assert (await client.info()).kind == "broker"

    run(work())


def test_no_broker_is_one_clear_error_after_the_connect_timeout(short_dir: Path) -> None:
    async def work() -> None:
        with pytest.raises(corral.RetryError, match="no broker answered at ipc://"):
            async with corral.AsyncClient(f"ipc://{short_dir}/nobody", connect_timeout_s=0.2):
                pass

    run(work())


def test_a_lost_reply_is_made_good_by_the_same_request_id(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.guest_handlers["g1", "pause"] = lambda call: Done() if call.copy else None

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            assert await client.call("g1", "pause", TARGET, request_id="mine") == Done()

    run(work())
    assert [call.header.id for call in broker.seen("pause")] == ["mine", "mine"]


@pytest.mark.parametrize(
    ("how", "ends"), [({}, "done"), ({"request_id": "mine"}, "unknown"), ({"request_id": "mine", "age_s": 0.0}, "done")]
)
def test_only_what_cannot_have_been_sent_before_goes_out_again_to_a_new_epoch(
    broker: FakeBroker, guest: FakeGuest, how: dict[str, Any], ends: str
) -> None:
    broker.guest_handlers["g1", "pause"] = lambda call: (
        Done() if call.header.epoch in ("", guest.epoch) else error("outcome_unknown", "sent for an epoch that has ended")
    )

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            await client.call("g1", "pause", TARGET)
            broker.do(lambda: guest.move_to_epoch("e2"))
            try:
                assert await client.call("g1", "pause", TARGET, **how) == Done()
                assert ends == "done"
            except corral.OutcomeUnknownError:
                assert ends == "unknown"

    run(work())


def test_a_busy_guest_is_asked_until_it_has_room(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.guest_handlers["g1", "pause"] = lambda call: Done() if call.copy == 3 else error("guest_busy", "full")

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            await client.guest("g1").container("c").pause()

    run(work())
    assert len(broker.seen("pause")) == 4


def test_an_unknown_guest_fails_at_once_and_not_when_asked_to_retry(broker: FakeBroker) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            begun_s = time.monotonic()
            with pytest.raises(corral.RetryError, match="guest_unreachable"):
                await client.guest("g1").list()
            assert time.monotonic() - begun_s < 0.5
            retried = asyncio.create_task(client.call("g1", "pause", TARGET, retry_unreachable=True))
            await asyncio.to_thread(broker.wait_for, lambda: len(broker.seen("pause")) >= 2)
            broker.do(lambda: FakeGuest(broker, "g1"))
            broker.guest_handlers["g1", "pause"] = lambda call: Done()
            assert await retried == Done()

    run(work())


def test_a_deadline_ends_a_command_within_a_tenth_of_a_second(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.guest_handlers["g1", "pause"] = lambda call: None

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            begun_s = time.monotonic()
            with pytest.raises(corral.DeadlineError) as caught:
                await client.call("g1", "pause", TARGET, timeout_s=0.3, request_id="late")
            assert 0.3 <= time.monotonic() - begun_s < 0.5
            assert caught.value.details["request_id"] == "late"

    run(work())


def test_a_broker_restart_in_mid_command_only_delays_the_reply(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.guest_handlers["g1", "pause"] = lambda call: None

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            task = asyncio.create_task(client.call("g1", "pause", TARGET))
            await asyncio.to_thread(broker.wait_for, lambda: len(broker.seen("pause")) == 1)
            broker.stop()
            broker.guest_handlers["g1", "pause"] = lambda call: Done()
            broker.start()
            assert await task == Done()

    run(work())
    assert len({call.header.id for call in broker.seen("pause")}) == 1


def test_ten_thousand_calls_at_once_each_get_their_own_answer(broker: FakeBroker, guest: FakeGuest) -> None:
    names: dict[str, str] = {}

    def answer(call: Call) -> Outcome:
        assert isinstance(call.args, ContainerTarget)
        return error("container_not_found", call.args.container)

    broker.guest_handlers["g1", "pause"] = answer

    async def one(client: corral.AsyncClient, name: str) -> None:
        try:
            await client.guest("g1").container(name).pause()
        except corral.NotFoundError as why:
            names[name] = why.message

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            await asyncio.gather(*(one(client, f"c{number}") for number in range(10_000)))

    # counting copies of an id in the fake is quadratic: this test does not need it
    broker.calls = _Forgetful()
    run(work())
    assert names == {name: name for name in (f"c{number}" for number in range(10_000))}


class _Forgetful(list[Call]):
    def append(self, call: Call) -> None:
        """Keeps nothing."""


def test_another_broker_takes_over_when_the_first_is_killed(broker: FakeBroker, short_dir: Path) -> None:
    with FakeBroker(short_dir, "second") as second:
        for one in (broker, second):
            one.do(lambda one=one: FakeGuest(one, "g1"))  # type: ignore[misc]
            one.guest_handlers["g1", "pause"] = lambda call: Done()

        async def work() -> None:
            async with corral.AsyncClient([broker.address, second.address]) as client:
                await client.call("g1", "pause", TARGET)
                first, other = (broker, second) if client.address == broker.address else (second, broker)
                await asyncio.to_thread(other.wait_for, lambda: len(other.seen("hello")) == 1)
                first.stop()
                assert await client.call("g1", "pause", TARGET) == Done()
                assert client.address == other.address

        run(work())


def test_a_silent_broker_gives_way_to_another(broker: FakeBroker, short_dir: Path) -> None:
    with FakeBroker(short_dir, "second") as second:
        for one in (broker, second):
            one.do(lambda one=one: FakeGuest(one, "g1"))  # type: ignore[misc]
            one.guest_handlers["g1", "pause"] = lambda call: Done()

        async def work() -> None:
            async with corral.AsyncClient([broker.address, second.address]) as client:
                first, other = (broker, second) if client.address == broker.address else (second, broker)
                await asyncio.to_thread(other.wait_for, lambda: len(other.seen("hello")) == 1)
                first.guest_handlers["g1", "pause"] = lambda call: None
                assert await client.call("g1", "pause", TARGET) == Done()

        run(work())


def test_closing_cancels_who_waits(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.guest_handlers["g1", "pause"] = lambda call: None

    async def work() -> None:
        client = corral.AsyncClient(broker.address)
        async with client:
            task = asyncio.create_task(client.call("g1", "pause", TARGET))
            await asyncio.to_thread(broker.wait_for, lambda: len(broker.seen("pause")) == 1)
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(corral.CorralError, match="not open"):
            await client.guests()

    run(work())


def test_an_oversized_command_is_refused_before_it_is_sent(broker: FakeBroker) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            with pytest.raises(corral.InvalidError, match="message_too_large"):
                await client.guest("g1").create(bundle="x" * (9 << 20))

    run(work())
