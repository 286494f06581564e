"""Listing many guests and finding containers by name."""

import pytest

import corral
from corral.container import Container
from corral.process import Process
from corral_schemas.commands import ContainerTarget
from corral_schemas.containers import ContainerState, ProcessInfo
from corral_schemas.cursor import Place
from corral_schemas.errors import error
from corral_schemas.queries import StateReply
from corral_testkit.bounded import run
from corral_testkit.fake_broker import INSTANCE, Call, FakeBroker, Outcome
from corral_testkit.fake_guest import FakeGuest


def state(name: str) -> ContainerState:
    processes = [ProcessInfo(process=process, instance=INSTANCE, pid=7) for process in ("init", "shell")]
    return ContainerState(
        oci_version="1",
        id=name,
        pid=7,
        bundle_path="",
        rootfs_path="",
        status="running",
        created="",
        instance=INSTANCE,
        processes=processes,
    )


def fill(broker: FakeBroker, name: str, containers: list[str]) -> None:
    guest = FakeGuest(broker, name)
    guest.containers = [state(container) for container in containers]

    def answer(call: Call) -> Outcome:
        assert isinstance(call.args, ContainerTarget)
        for found in guest.containers:
            if found.id == call.args.container:
                return StateReply(state=found, place=Place(epoch="e1", seq=0))
        return error("container_not_found", call.args.container)

    broker.guest_handlers[name, "state"] = answer


def test_a_list_names_its_guests_its_cursor_and_who_kept_silent(broker: FakeBroker) -> None:
    for number in range(5):
        fill(broker, f"g{number}", [f"web{number}"])
    broker.guest_handlers["g3", "list"] = lambda call: error("runtime_failed", "broken")

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            fleet = await client.list()
            assert [(found.guest, found.id) for found in fleet.containers] == [(f"g{n}", f"web{n}") for n in (0, 1, 2, 4)]
            assert set(fleet.cursor.places) == {"g0", "g1", "g2", "g4"}
            assert {name: why.code for name, why in fleet.silent.items()} == {"g3": "runtime_failed"}
            some = await client.list(["g1", "nobody"])
            assert [found.id for found in some.containers] == ["web1"]
            assert some.silent["nobody"].code == "guest_unreachable"

    run(work())


def test_a_name_is_found_by_path_or_alone_and_pinned_to_its_instance(broker: FakeBroker) -> None:
    fill(broker, "g1", ["web", "db"])
    fill(broker, "g2", ["web"])

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            for path, guest in (("g1/db", None), ("db", None), ("db", "g1")):
                found = await client.find(path, guest)
                assert isinstance(found, Container)
                assert (found.guest, found.name, found.instance) == ("g1", "db", INSTANCE)
            shell = await client.find("g2/web/shell")
            assert isinstance(shell, Process) and (shell.process, shell.instance) == ("shell", INSTANCE)
            assert isinstance(await client.find("web/shell", "g2"), Process)

    run(work())


def test_a_name_is_not_called_absent_while_a_guest_that_may_have_it_is_silent(broker: FakeBroker) -> None:
    fill(broker, "g1", ["webserver"])
    fill(broker, "g2", ["job"])
    broker.guest_handlers["g2", "list"] = lambda call: error("runtime_failed", "broken")

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            with pytest.raises(corral.RetryError, match="not known, since 1 guest did not answer: g2") as unknown:
                await client.find("job")
            assert (unknown.value.code, unknown.value.details["silent"]) == ("guest_unreachable", ["g2"])
            assert isinstance(await client.find("webserver"), Container)

    run(work())


def test_a_name_that_cannot_be_found_says_what_is_near(broker: FakeBroker) -> None:
    fill(broker, "g1", ["webserver", "db"])
    fill(broker, "g2", ["db"])

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            with pytest.raises(corral.NotFoundError) as missing:
                await client.find("webservr")
            assert missing.value.details["nearest"] == ["g1/webserver"]
            with pytest.raises(corral.NotFoundError) as missing:
                await client.find("g1/websrver")
            assert missing.value.details["nearest"] == ["g1/webserver"]
            with pytest.raises(corral.NotFoundError) as missing:
                await client.find("g1/db/shel")
            assert (missing.value.code, missing.value.details["nearest"]) == ("process_not_found", ["shell"])
            with pytest.raises(corral.InvalidError) as ambiguous:
                await client.find("db")
            assert (ambiguous.value.code, ambiguous.value.details["candidates"]) == ("name_ambiguous", ["g1/db", "g2/db"])
            with pytest.raises(corral.InvalidError, match="neither NAME"):
                await client.find("a/b/c/d")

    run(work())
