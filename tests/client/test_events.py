"""Event streams over real sockets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import corral
from corral.core.membership import Membership
from corral_schemas.events import ExitEvent, GuestUp, Started
from corral_schemas.exits import Exit
from corral_testkit.bounded import run
from corral_testkit.fake_broker import FakeBroker
from corral_testkit.fake_guest import FakeGuest

EXIT = ExitEvent(exit=Exit(type="exited", code=0))


def seq(item: object) -> int:
    assert isinstance(item, corral.Event)
    return item.header.seq


async def take(stream: Any, count: int) -> list[int]:
    return [seq(await anext(stream)) for _ in range(count)]


@pytest.mark.guarantee(12)
def test_what_happens_right_after_entering_is_never_missed(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            for number in range(20):
                async with client.events() as stream:
                    broker.do(lambda: guest.record("started", Started(pid=1)))
                    assert await take(stream, 1) == [number + 1]

    run(work())


def test_from_now_means_without_what_was_before_even_if_heartbeats_lag(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.do(lambda: [guest.record("started", Started(pid=1)) for _ in range(5)])
    broker.guests["g1"] = replace(broker.guests["g1"], seq=2)

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events() as stream:
            broker.do(lambda: guest.record("started", Started(pid=2)))
            assert await take(stream, 1) == [6]

    run(work())


@pytest.mark.guarantee(9)
def test_lost_events_come_from_the_journal_in_order(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events() as stream:
            broker.do(lambda: [guest.record("started", Started(pid=n), publish=n % 3 == 0) for n in range(100)])
            assert await take(stream, 100) == list(range(1, 101))

    run(work())


def test_a_lost_last_event_comes_after_the_next_heartbeat(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events(kinds=["exit"], guests=["g1"]) as stream:
            broker.do(lambda: guest.record("exit", EXIT, publish=False))
            broker.do(guest.beacon)
            event = await anext(stream)
            assert isinstance(event, corral.Event)
            assert event.payload == EXIT

    run(work())


def test_silence_of_two_heartbeats_makes_the_stream_ask(short_dir: Path) -> None:
    with FakeBroker(short_dir, heartbeat_ms=100) as broker:
        guest = FakeGuest(broker, "g1")

        async def work() -> None:
            async with corral.AsyncClient(broker.address) as client, client.events() as stream:
                broker.do(lambda: guest.record("exit", EXIT, publish=False))
                assert await take(stream, 1) == [1]

        run(work())


def test_a_stored_cursor_goes_on_right_behind_the_last_event_handed_out(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            async with client.events() as stream:
                broker.do(lambda: [guest.record("started", Started(pid=1)) for _ in range(4)])
                first = await anext(stream)
                assert isinstance(first, corral.Event)
                await anext(stream)
                stored = stream.cursor
            async with client.events(after=first.cursor) as stream:
                assert await take(stream, 3) == [2, 3, 4]
            async with client.events(after=stored) as stream:
                assert await take(stream, 2) == [3, 4]

    run(work())


def test_a_cursor_taken_before_the_first_event_means_now_too(broker: FakeBroker, guest: FakeGuest) -> None:
    broker.do(lambda: [guest.record("started", Started(pid=1)) for _ in range(3)])

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            async with client.events() as stream:
                cursor = stream.cursor
            broker.do(lambda: guest.record("started", Started(pid=1)))
            async with client.events(after=cursor) as stream:
                assert await take(stream, 1) == [4]

    run(work())


def test_list_then_follow_has_no_hole(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.record("started", Started(pid=1)))
            fleet = await client.list()
            broker.do(lambda: guest.record("started", Started(pid=2)))
            async with client.events(after=fleet.cursor) as stream:
                assert await take(stream, 1) == [2]

    run(work())


def test_a_broker_restart_loses_no_event(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events() as stream:
            broker.do(lambda: guest.record("started", Started(pid=1)))
            assert await take(stream, 1) == [1]
            broker.stop()
            guest.record("started", Started(pid=2), publish=False)
            broker.start()
            assert await take(stream, 1) == [2]

    run(work())


def test_a_new_epoch_is_a_resync_and_then_its_events(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events() as stream:
            broker.do(lambda: guest.record("started", Started(pid=1)))
            assert await take(stream, 1) == [1]
            broker.do(lambda: guest.move_to_epoch("e2"))
            broker.do(lambda: guest.record("started", Started(pid=2)))
            item = await anext(stream)
            assert isinstance(item, corral.Resync)
            assert (item.guest, item.place.epoch) == ("g1", "e2")
            assert await take(stream, 1) == [1]

    run(work())


def test_a_cursor_older_than_the_journal_is_a_resync(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            cursor = (await client.list()).cursor
            broker.do(lambda: [guest.record("started", Started(pid=1), publish=False) for _ in range(5)])
            broker.do(lambda: guest.trim(3))
            async with client.events(after=cursor) as stream:
                item = await anext(stream)
                assert isinstance(item, corral.Resync)
                assert item.place.seq == 5

    run(work())


def test_two_brokers_carrying_the_same_events_give_each_once(broker: FakeBroker, short_dir: Path) -> None:
    with FakeBroker(short_dir, "second") as second:
        first_guest, second_guest = FakeGuest(broker, "g1"), FakeGuest(second, "g1")

        async def work() -> None:
            async with corral.AsyncClient([broker.address, second.address]) as client:
                await asyncio.to_thread(second.wait_for, lambda: len(second.seen("hello")) == 1)
                await asyncio.to_thread(broker.wait_for, lambda: len(broker.seen("hello")) == 1)
                await client.guests()
                async with client.events(broker_events=False) as stream:
                    for _ in range(10):
                        broker.do(lambda: first_guest.record("started", Started(pid=1)))
                        second.do(lambda: second_guest.record("started", Started(pid=1)))
                    assert await take(stream, 10) == list(range(1, 11))
                    second.do(lambda: second_guest.record("started", Started(pid=1)))
                    assert await take(stream, 1) == [11]

        run(work())


def test_word_of_guests_coming_is_given_unless_not_wanted(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with (
            corral.AsyncClient(broker.address) as client,
            client.events() as told,
            client.events(broker_events=False) as untold,
        ):
            broker.do(lambda: broker.publish_own("guest_up", "g2", GuestUp()))
            broker.do(lambda: guest.record("started", Started(pid=1)))
            up = await anext(told)
            assert isinstance(up, corral.Event) and (up.kind, up.guest) == ("guest_up", "g2")
            event = await anext(untold)
            assert isinstance(event, corral.Event) and event.kind == "started"

    run(work())


def test_a_caller_that_falls_behind_gets_everything_in_the_end(broker: FakeBroker, guest: FakeGuest) -> None:
    count = 15_000

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events() as stream:
            for _ in range(count // 100):
                await asyncio.to_thread(broker.do, lambda: [guest.record("started", Started(pid=1)) for _ in range(100)])
            broker.do(guest.beacon)
            assert await take(stream, count) == list(range(1, count + 1))

    run(work())


def test_closing_a_stream_ends_its_iteration(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            async with client.events() as stream:
                task = asyncio.create_task(collect(stream))
                broker.do(lambda: guest.record("started", Started(pid=1)))
                await asyncio.to_thread(broker.wait_for, lambda: True)
                await client.guests()
            assert await task == [1]

    async def collect(stream: Any) -> list[int]:
        return [seq(item) async for item in stream]

    run(work())


def with_labels(broker: FakeBroker, guest: str, **labels: str) -> None:
    broker.guests[guest] = replace(broker.guests[guest], labels=labels)


def test_a_selector_gives_the_events_of_guests_with_those_labels_later_ones_too(broker: FakeBroker) -> None:
    guests = {name: FakeGuest(broker, name) for name in ("web-1", "db-1")}
    with_labels(broker, "web-1", role="web")
    with_labels(broker, "db-1", role="db")

    async def work() -> None:
        async with (
            corral.AsyncClient(broker.address) as client,
            client.events(select="role=web", broker_events=False) as by_label,
            client.events(select="web-*", broker_events=False) as by_name,
        ):
            guests["web-2"] = FakeGuest(broker, "web-2")
            with_labels(broker, "web-2", role="web")
            broker.do(lambda: broker.publish_own("guest_up", "web-2", GuestUp(labels={"role": "web"}, epoch="e1")))
            for guest in guests.values():
                broker.do(lambda guest=guest: guest.record("started", Started(pid=1)))  # type: ignore[misc]
            for stream in (by_label, by_name):
                items = [await anext(stream), await anext(stream)]
                assert {item.guest for item in items if isinstance(item, corral.Event)} == {"web-1", "web-2"}
            broker.do(lambda: broker.publish_own("guest_up", "web-1", GuestUp(labels={"role": "old"}, epoch="e1", seq=1)))
            for guest in guests.values():
                broker.do(lambda guest=guest: guest.record("started", Started(pid=2)))  # type: ignore[misc]
            item = await anext(by_label)
            assert isinstance(item, corral.Event) and item.guest == "web-2"

    run(work())


def test_a_guest_whose_registration_was_not_heard_of_is_judged_by_what_the_broker_says(broker: FakeBroker) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events(select="role=web", broker_events=False) as stream:
            for name, role in (("a", "db"), ("b", "web")):
                guest = FakeGuest(broker, name)
                with_labels(broker, name, role=role)
                broker.do(lambda guest=guest: [guest.record("started", Started(pid=n)) for n in range(3)])  # type: ignore[misc]
            assert [(item.guest, seq(item)) for item in [await anext(stream) for _ in range(3)] if isinstance(item, corral.Event)] == [
                ("b", 1), ("b", 2), ("b", 3),
            ]  # fmt: skip

    run(work())


def test_a_failure_nobody_foresaw_is_told_to_whoever_iterates(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("labels that no one can judge")

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client, client.events(select="role=web", broker_events=False) as stream:
            monkeypatch.setattr(Membership, "learn", break_down)
            guest = FakeGuest(broker, "unheard-of")
            with_labels(broker, "unheard-of", role="web")
            broker.do(lambda: guest.record("started", Started(pid=1)))
            for _ in range(2):  # it is not forgotten either
                with pytest.raises(RuntimeError, match="no one can judge"):
                    await anext(stream)

    run(work())


def test_a_selector_that_means_nothing_is_refused_at_once(broker: FakeBroker) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            with pytest.raises(corral.InvalidError, match="character 6"):
                client.events(select="role=")

    run(work())
