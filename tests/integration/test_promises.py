"""Promises about waits, lists, events and commands, on real parts while they are killed, frozen and raced (G3, 10, 11, 14, 16, 20)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import AsyncClient, ContainerSpec, CorralError, Event, Mount, StdioOptions
from corral_schemas.commands import CancelArgs, RunArgs
from corral_schemas.cursor import Cursor
from corral_schemas.exits import Exit
from corral_testkit.bounded import run
from corral_testkit.remains import cgroups_of, processes_at
from corral_testkit.shim_driver import wait_until
from corral_testkit.sizes import size
from corral_testkit.system import CorralSystem
from integration.conftest import left_of

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


# -- guarantee 3 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(3)
def test_500_waiters_half_of_them_late_get_the_same_exit_over_a_restart_of_the_broker(corral: CorralSystem) -> None:
    name = corral.names[0]
    container = corral.client().guest(name).run("w", spec=corral.spec("sh", "-c", "read x; exit 6"), stdio=StdioOptions(stdin=True))

    async def work() -> list[Exit]:
        async with corral.async_client(retry_unreachable=True) as client:
            by_name, by_instance = client.guest(name).container("w"), client.guest(name).container("w", container.instance)
            early = [asyncio.create_task((by_name, by_instance)[number % 2].wait(60)) for number in range(250)]
            await client.info(name)
            await asyncio.to_thread(corral.restart_broker)
            await by_name.init.stdin.write(b"x\n")
            first = await early[0]
            late = [asyncio.create_task((by_name, by_instance)[number % 2].wait(60)) for number in range(250)]
            return [first, *await asyncio.gather(*early, *late)]

    ends = run(work(), 90)
    assert len(ends) == 501 and {(end.type, end.code, end.exited_ns) for end in ends} == {("exited", 6, ends[0].exited_ns)}


# -- guarantee 10 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(10)
def test_a_broker_killed_between_publication_and_delivery_costs_no_event_and_gives_none_twice(corral: CorralSystem) -> None:
    name = corral.names[0]
    client = corral.client(retry_unreachable=True)
    guest = client.guest(name)
    container = guest.run("talks", spec=corral.spec("sleep", "1000"))
    before = guest.list().place
    with client.events(after=Cursor(places={name: before}), guests=[name], broker_events=False) as events:
        for _ in range(3):
            threads = [threading.Thread(target=lambda: container.exec(["true"]).wait()) for _ in range(4)]
            for thread in threads:
                thread.start()
            corral.restart_broker()
            for thread in threads:
                thread.join()
        last = guest.list().place.seq
        seqs: list[int] = []
        for item in events:
            assert isinstance(item, Event), item
            seqs.append(item.header.seq)
            if item.header.seq >= last:
                break
    assert seqs == list(range(before.seq + 1, last + 1))


# -- guarantee 11 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(11)
@pytest.mark.timeout(900)
def test_lists_that_race_creates_and_are_followed_derive_the_real_state(corral: CorralSystem) -> None:
    name, boxes, followers, patience_s = corral.names[0], size(24, 1_000), size(12, 100), size(90, 800)

    async def follow(client: AsyncClient) -> set[str]:
        listed = await client.guest(name).list()
        there = {state.instance for state in listed.containers}
        async with client.events(after=Cursor(places={name: listed.place}), guests=[name], broker_events=False) as events:
            async for item in events:
                assert isinstance(item, Event), item
                if item.kind == "created":
                    there.add(item.header.instance)
                elif item.kind == "deleted":
                    there.discard(item.header.instance)
                    if item.header.container == "last":
                        return there
        raise AssertionError("the stream ended")

    async def work() -> tuple[list[set[str]], set[str]]:
        async with corral.async_client(timeout_s=patience_s) as client, corral.async_client(timeout_s=patience_s) as other:
            guest = client.guest(name)

            async def make(number: int) -> None:
                container = await guest.run(f"c{number}", spec=corral.spec("sleep", "1000"))
                if number % 3 == 0:
                    await container.delete(force=True)

            makers = [asyncio.create_task(make(number)) for number in range(boxes)]
            tasks: list[asyncio.Task[set[str]]] = []
            for _ in range(followers):
                tasks.append(asyncio.create_task(follow(other)))
                await other.info(name)
            await asyncio.gather(*makers)
            await (await guest.run("last", spec=corral.spec("true"))).delete(force=True)
            derived = await asyncio.gather(*tasks)
            return derived, {state.instance for state in (await guest.list()).containers}

    derived, real = run(work(), patience_s)
    assert len(real) == boxes - len(range(0, boxes, 3))
    assert all(one == real for one in derived)


# -- guarantee 14 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(14)
def test_an_abandoned_command_does_not_run_when_its_frozen_worker_thaws(corral: CorralSystem, tmp_path: Path) -> None:
    name = corral.names[0]
    client = corral.client()
    witness = ContainerSpec(
        rootfs=str(corral.rootfs),
        args=["sh", "-c", "echo ran >>/w/file"],
        mounts=[Mount(source=str(tmp_path), destination="/w")],
    )
    corral.workers[name].freeze()
    with pytest.raises(CorralError) as given_up:
        client.call(name, "run", RunArgs(container="late", spec=witness), timeout_s=0.5, request_id="late")
    assert given_up.value.code == "deadline_exceeded"
    with pytest.raises(CorralError):
        client.call(name, "cancel", CancelArgs(id="late"), timeout_s=0.3)
    corral.workers[name].thaw()
    assert client.guest(name).run("now", spec=corral.spec("true")).wait().code == 0
    assert not (tmp_path / "file").exists()
    assert [state.id for state in client.guest(name).list().containers] == ["now"]


# -- guarantee 16 -------------------------------------------------------------------------------------------------------------------


def test_a_worker_killed_again_and_again_costs_no_byte_and_no_code_of_many_containers(corral: CorralSystem) -> None:
    name, boxes, kills = corral.names[0], 16, 4
    script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); usleep 5000; done; exit {}"

    async def work() -> list[tuple[int, Exit, bytes]]:
        async with corral.async_client(retry_unreachable=True) as client:
            guest = client.guest(name)

            async def one(number: int) -> tuple[int, Exit, bytes]:
                spec = corral.spec("sh", "-c", script.format(number))
                container = await guest.run(f"c{number}", spec=spec, request_id=f"many-{name}-{number}")
                data = await container.init.stdout.read()
                return number, await container.wait(60), data

            tasks = [asyncio.create_task(one(number)) for number in range(boxes)]
            for _ in range(kills):
                await asyncio.to_thread(corral.restart_worker, name)
            return await asyncio.gather(*tasks)

    expected = b"".join(b"line %d\n" % number for number in range(400))
    for number, end, data in run(work(), 100):
        assert (end.type, end.code, data == expected) == ("exited", number, True), (number, end, len(data))


# -- guarantee 20 -------------------------------------------------------------------------------------------------------------------


def test_cycles_of_create_exec_and_delete_leave_nothing_and_no_descriptor(new_corral: Callable[..., CorralSystem]) -> None:
    system = new_corral()
    (name,) = system.names
    guest = system.client().guest(name)
    instances = system.state_dir(name) / "instances"

    def cycle() -> None:
        container = guest.run(spec=system.spec("sleep", "1000"))
        assert container.exec(["true"]).wait().code == 0
        container.delete(force=True)

    for _ in range(5):
        cycle()
    wait_until(lambda: left_of(system, name) == [], "the first are gone", 5.0)
    before = [descriptors(pid) for pid in (system.workers[name].pid, system.broker.pid, system.zygote_pid(name) or 0)]
    processes = len(processes_at(system.run_dir(name)))
    for _ in range(30):
        cycle()
    wait_until(lambda: left_of(system, name) == [] and cgroups_of(name) == [], "nothing of them is left", 5.0)
    after = [descriptors(pid) for pid in (system.workers[name].pid, system.broker.pid, system.zygote_pid(name) or 0)]
    assert all(now <= was + 2 for was, now in zip(before, after, strict=True)), (before, after)
    assert len(processes_at(system.run_dir(name))) <= processes
    zombies = Counter(state(pid) for pid in processes_at(system.directory))["Z"]
    assert zombies == 0
    assert all({path.name for path in one.iterdir()} for one in instances.iterdir()), "what is kept has its output"


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) if pid else 0


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


# -- the janitor (16, 20) -------------------------------------------------------------------------------------------------------------


def test_what_belongs_to_nobody_is_removed_at_the_start_of_a_worker_which_says_what_it_was(corral: CorralSystem) -> None:
    name = corral.names[0]
    stray = "0" * 26
    keeper = corral.client().guest(name).run("keeper", spec=corral.spec("sleep", "1000"))
    corral.workers[name].kill()
    directory = corral.state_dir(name) / "instances" / stray
    (directory / stray).mkdir(parents=True)
    (corral.run_dir(name) / "runc" / stray).mkdir()
    (corral.run_dir(name) / "s" / f"{stray}.sock").touch()
    (corral.run_dir(name) / "s" / f"{stray}.tty").touch()
    (mine,) = (path for path in cgroups_of(name) if path.parts[4] in ("pids", "corral") and path.name == keeper.instance)
    lone = mine.with_name("1" * 26)
    lone.mkdir()
    lost = len(corral.workers[name].log)
    corral.restart_worker(name)
    log = corral.workers[name].log[lost:]
    assert f"instance {stray} belongs to no container: removing its directory, shim, runtime state" in log
    assert f"instance {lone.name} belongs to no container: removing its cgroup" in log
    assert f"console socket {stray}.tty belongs to no container" in log
    wait_until(lambda: not directory.exists() and not lone.exists(), "they are removed", 5.0)
    assert not [path for path in (corral.run_dir(name) / "s").iterdir() if stray in path.name]
    assert keeper.state().status == "running"
