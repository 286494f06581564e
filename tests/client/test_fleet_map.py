"""The same act in many guests."""

import asyncio
from collections.abc import Iterator

import pytest

import corral
from corral.fleet_map import Mapped
from corral.guest import Guest
from corral_schemas.base import Message
from corral_schemas.errors import error
from corral_schemas.queries import GuestInfo, InfoReply, Nothing
from corral_testkit.bounded import run
from corral_testkit.fake_broker import INSTANCE, FakeBroker
from corral_testkit.fake_guest import FakeGuest


@pytest.fixture
def fleet(broker: FakeBroker) -> Iterator[FakeBroker]:
    """Six guests; g5 is down, g6 refuses."""
    for number in range(1, 7):
        FakeGuest(broker, f"g{number}")
    broker.guests["g5"] = GuestInfo(guest="g5", up=False, worker=INSTANCE)
    broker.guest_handlers["g5", "info"] = lambda _: error("guest_unreachable", "down", sent=False)
    broker.guest_handlers["g6", "info"] = lambda _: error("storage_full", "full")
    yield broker


def test_a_command_goes_to_every_guest_selected_and_each_has_its_outcome(fleet: FakeBroker) -> None:
    async def work() -> None:
        async with corral.AsyncClient(fleet.address) as client:
            found: dict[str, Mapped[Message]] = {}
            async for mapped in client.map("g*", ("info", Nothing())):
                found[mapped.guest] = mapped
            assert {name: mapped.outcome for name, mapped in found.items()} == {
                "g1": "ok", "g2": "ok", "g3": "ok", "g4": "ok", "g5": "unreachable", "g6": "failed",
            }  # fmt: skip
            assert isinstance(found["g1"].value, InfoReply)
            assert found["g6"].error is not None
            assert found["g6"].error.code == "storage_full"

    run(work())


def test_never_more_than_the_window_are_under_way(fleet: FakeBroker) -> None:
    under_way = most = 0

    async def act(guest: Guest) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return guest.name.upper()

    async def work() -> None:
        async with corral.AsyncClient(fleet.address) as client:
            values = [mapped.value async for mapped in client.map("all", act, window="50%")]
            assert sorted(str(value) for value in values) == ["G1", "G2", "G3", "G4", "G5", "G6"]

    run(work())
    assert most == 3


def test_one_that_takes_too_long_is_a_timeout_and_leaving_early_cancels_the_rest(fleet: FakeBroker) -> None:
    cancelled: list[str] = []

    async def act(guest: Guest) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(guest.name)
            raise

    async def work() -> None:
        async with corral.AsyncClient(fleet.address) as client:
            assert [mapped.outcome async for mapped in client.map("g1", act, timeout_s=0.05)] == ["timeout"]
            stream = client.map("g1,g2", act)
            first = asyncio.ensure_future(anext(aiter(stream)))
            await asyncio.sleep(0.05)  # until both are under way
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    run(work())
    assert sorted(cancelled) == ["g1", "g1", "g2"]


def test_a_mistake_in_the_function_ends_the_iteration(fleet: FakeBroker) -> None:
    async def act(guest: Guest) -> None:
        raise ZeroDivisionError(guest.name)

    async def work() -> None:
        async with corral.AsyncClient(fleet.address) as client:
            with pytest.raises(ZeroDivisionError):
                async for _ in client.map("all", act):
                    pass

    run(work())


@pytest.mark.parametrize(("select", "code"), [("role in", "bad_request"), ("g77", "guest_unreachable"), ("a=b", "guest_unreachable")])
def test_a_selector_that_means_nobody_is_an_error(fleet: FakeBroker, select: str, code: str) -> None:
    async def work() -> None:
        async with corral.AsyncClient(fleet.address) as client:
            with pytest.raises(corral.CorralError) as caught:
                async for _ in client.map(select, ("info", Nothing())):
                    pass
            assert caught.value.code == code

    run(work())


def test_the_synchronous_client_maps_functions_in_threads(fleet: FakeBroker) -> None:
    with corral.Client(fleet.address) as client:
        listed = {mapped.guest: mapped.value for mapped in client.map("g1,g2", lambda guest: len(guest.list().containers), window=2)}
        assert listed == {"g1": 0, "g2": 0}
        assert [mapped.outcome for mapped in client.map("g6", ("info", Nothing()))] == ["failed"]
