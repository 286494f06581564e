"""What is killed, and what must be as if it had not been: worker, broker, shim, zygote and journal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral import Chunk, Client, CorralError, DeadlineError, Event, Gap, StdioOptions
from corral.sync.container import Container
from corral.sync.guest import Guest
from corral_schemas.cursor import Cursor, Place
from corral_schemas.queries import ResultArgs, ResultReply
from corral_testkit.cursors import cursor_now
from corral_testkit.remains import kill_and_wait, processes_at
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem
from corral_worker.base.paths import GuestPaths
from corral_worker.shim.cgroup.cgroup import hierarchies
from corral_worker.shims.port import ShimGoneError, UnixShims

pytestmark = pytest.mark.runc


@pytest.fixture
def client(corral: CorralSystem) -> Client:
    return corral.client(retry_unreachable=True)


@pytest.fixture
def guest(corral: CorralSystem, client: Client) -> Guest:
    return client.guest(corral.names[0])


def events_of(client: Client, cursor: str, container: Container, last: str) -> list[str]:
    """Kinds of a container's events after a cursor, up to `last`."""
    kinds: list[str] = []
    with client.events(after=cursor, guests=[container.guest], broker_events=False) as events:
        for item in events:
            assert isinstance(item, Event), item
            if item.header.instance == container.instance:
                kinds.append(item.kind)
                if item.kind == last:
                    return kinds
    raise AssertionError("the stream of events ended")


def test_kill_9_of_the_worker_while_a_container_prints_costs_no_byte_and_no_code(
    corral: CorralSystem, client: Client, guest: Guest
) -> None:
    cursor = cursor_now(client, guest.name)
    script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; read go; echo done; exit 5"
    container = guest.run("print", spec=corral.spec("sh", "-c", script), stdio=StdioOptions(stdin=True))
    for _ in range(2):
        corral.restart_worker(guest.name)
    container.init.stdin.write(b"go\n")
    end = container.wait()
    assert (end.type, end.code) == ("exited", 5)
    expected = b"".join(b"line %d\n" % number for number in range(4000)) + b"done\n"
    assert container.init.stdout.read() == expected
    assert end.streams["stdout"].total == len(expected)
    container.delete()
    assert events_of(client, cursor, container, "deleted") == ["created", "started", "exit", "deleted"]


@pytest.mark.guarantee(1)
def test_an_exit_while_no_worker_runs_is_reported_by_the_next(corral: CorralSystem, client: Client, guest: Guest) -> None:
    cursor = cursor_now(client, guest.name)
    container = guest.run("ends", spec=corral.spec("sh", "-c", "read go; echo end; exit 9"), stdio=StdioOptions(stdin=True))
    process = container.exec(["sh", "-c", "kill -USR1 $$"], stdio=StdioOptions())
    assert process.wait().signal == signal.SIGUSR1
    pid = container.state().pid
    corral.workers[guest.name].kill()
    kill_and_wait(pid)
    corral.restart_worker(guest.name)
    assert container.wait().signal == signal.SIGKILL
    assert events_of(client, cursor, container, "exit")[:4] == ["created", "started", "exec_started", "exit"]


def test_a_wait_and_a_reader_go_through_a_restart_of_the_broker(corral: CorralSystem, client: Client, guest: Guest) -> None:
    container = guest.run("broker", spec=corral.spec("sh", "-c", "echo a; read x; echo b; exit 6"), stdio=StdioOptions(stdin=True))
    lines = container.init.stdout.lines()
    assert next(lines) == b"a"
    corral.restart_broker()
    container.init.stdin.write(b"x\n")
    began_s = time.monotonic()
    assert next(lines) == b"b"
    assert container.wait().code == 6
    assert time.monotonic() - began_s < 10
    began_s = time.monotonic()
    assert container.init.stdout.read() == b"a\nb\n"
    assert time.monotonic() - began_s < 5, "output came late over a session that the new broker does not know"


@pytest.mark.guarantee(16)
def test_a_killed_shim_is_lost_at_once_and_leaves_nothing_running(corral: CorralSystem, client: Client, guest: Guest) -> None:
    container = guest.run("lost", spec=corral.spec("sh", "-c", "echo before; sleep 1000 & sleep 1000; true"))
    assert next(container.init.stdout.lines()) == b"before"
    done = container.exec(["sh", "-c", "exit 3"])
    assert done.wait().code == 3
    running = container.exec(["sleep", "1000"])
    pids = [one.pid for one in container.ps()]
    assert len(pids) == 4
    cursor = cursor_now(client, guest.name)
    began_s = time.monotonic()
    kill_and_wait(corral.shim_pid(guest.name, container.instance))
    ends = [container.wait(), running.wait()]
    assert time.monotonic() - began_s < 2.0
    assert {(end.type, end.reason, end.code, end.signal) for end in ends} == {("lost", "shim died", None, None)}
    assert done.wait().code == 3  # what was known stays known
    assert events_of(client, cursor, container, "exit") == ["exit"]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "what was killed is reaped", 5.0)
    assert container.state().status == "stopped"
    assert container.ps() == []
    before, cut = container.init.output(stderr=None)  # what its pipe held went with the shim
    assert isinstance(before, Chunk) and before.data == b"before\n"
    assert isinstance(cut, Gap) and (cut.start, cut.reason, cut.open_ended) == (7, "shim_died", True)
    assert done.stdout.read() == b""
    assert "do not end after SIGKILL" not in corral.workers[guest.name].log
    container.delete()
    assert guest.run("lost", spec=corral.spec("true")).wait().code == 0


@pytest.mark.guarantee(16)
def test_shims_that_stand_still_hold_up_no_worker_and_are_adopted_when_they_go_on(corral: CorralSystem, guest: Guest) -> None:
    spec = corral.spec("sh", "-c", "read x; exit 7")
    containers = [guest.run(f"still-{number}", spec=spec, stdio=StdioOptions(stdin=True)) for number in range(3)]
    shims = [corral.shim_pid(guest.name, container.instance) for container in containers]
    for shim in shims:
        os.kill(shim, signal.SIGSTOP)
    try:
        corral.workers[guest.name].kill()
        began_s = time.monotonic()
        corral.restart_worker(guest.name)
        assert time.monotonic() - began_s < 8, "the start waited for the shims one after the other"
        assert {state.status for state in guest.list().containers} == {"running"}
        assert guest.run("another", spec=corral.spec("true")).wait().code == 0
        with pytest.raises(DeadlineError):
            containers[0].exec(["true"], timeout_s=1)
        os.kill(shims[1], signal.SIGKILL)  # one of them is seen to be dead while it is waited for
        assert containers[1].wait(timeout_s=20).type == "lost"
    finally:
        for shim in shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim, signal.SIGCONT)
    for container in (containers[0], containers[2]):
        container.init.stdin.write(b"x\n")
        assert container.wait(timeout_s=20).code == 7
    for container in containers:
        container.delete()


def test_a_command_under_way_in_a_shim_that_stands_still_is_done_once_over_a_restart(
    corral: CorralSystem, client: Client, guest: Guest
) -> None:
    container = guest.run("still", spec=corral.spec("sleep", "1000"))
    shim = corral.shim_pid(guest.name, container.instance)

    def is_under_way() -> bool:
        try:
            reply = client.call(guest.name, "result", ResultArgs(id="mine"))
        except CorralError:
            return False
        return isinstance(reply, ResultReply) and reply.state == "running"

    os.kill(shim, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(container.exec, ["sh", "-c", "echo once"], timeout_s=40, request_id="mine")
            wait_until(is_under_way, "the worker has recorded the command", 10.0)
            corral.workers[guest.name].kill()
            corral.restart_worker(guest.name)
            wait_until(is_under_way, "the new worker goes on with the command", 10.0)
            os.kill(shim, signal.SIGCONT)
            process = asked.result(40)
    finally:
        os.kill(shim, signal.SIGCONT)
    assert process.wait().code == 0
    assert process.stdout.read() == b"once\n"
    assert len([one for one in container.state().processes if one.process != "init"]) == 1
    container.delete(force=True)


def test_a_shim_killed_while_there_is_no_worker_is_lost_too(corral: CorralSystem, guest: Guest) -> None:
    container = guest.run("lost", spec=corral.spec("sleep", "1000"))
    shim = corral.shim_pid(guest.name, container.instance)
    corral.workers[guest.name].kill()
    kill_and_wait(shim)
    corral.restart_worker(guest.name)
    assert container.wait().type == "lost"


def test_a_shim_that_a_dead_worker_had_forked_anew_for_a_lost_container_hides_nothing(corral: CorralSystem, guest: Guest) -> None:
    container = guest.run("lost", spec=corral.spec("sleep", "1000"))
    shim = corral.shim_pid(guest.name, container.instance)
    corral.workers[guest.name].kill()
    kill_and_wait(shim)

    async def fork_anew() -> None:
        shims = UnixShims(GuestPaths(corral.state_dir(guest.name), corral.run_dir(guest.name)), guest.name)
        await shims.start()
        async with asyncio.timeout(10):
            while not await forked(shims):
                await asyncio.sleep(0.05)  # the zygote clears away what the dead one left
        shims.close()
        await asyncio.sleep(0)  # so that the loop closes its end

    async def forked(shims: UnixShims) -> bool:
        try:
            await shims.fork(container.instance, "lost")
        except ShimGoneError:
            return False
        return True

    asyncio.run(fork_anew())
    corral.restart_worker(guest.name)
    assert container.wait(timeout_s=10).type == "lost"
    container.delete()


def test_a_killed_zygote_is_replaced_and_harms_nobody(corral: CorralSystem, guest: Guest) -> None:
    container = guest.run("lives", spec=corral.spec("sh", "-c", "read x; exit 4"), stdio=StdioOptions(stdin=True))
    zygote = corral.zygote_pid(guest.name)
    assert zygote is not None
    kill_and_wait(zygote)
    assert guest.run("next", spec=corral.spec("sh", "-c", "exit 2")).wait().code == 2
    assert corral.zygote_pid(guest.name) not in (None, zygote)
    container.init.stdin.write(b"x\n")
    assert container.wait().code == 4


def test_a_corrupt_journal_is_moved_aside_and_what_runs_is_adopted(corral: CorralSystem, client: Client, guest: Guest) -> None:
    container = guest.run("adopt", spec=corral.spec("sh", "-c", "echo out; read x; exit 8"), stdio=StdioOptions(stdin=True))
    process = container.exec(["sleep", "1000"], process="x1")
    assert next(container.init.stdout.lines()) == b"out"
    epoch = client.info(guest.name).epoch
    corral.workers[guest.name].kill()
    journal = corral.state_dir(guest.name) / "journal.sqlite"
    kept = journal.rename(journal.with_name("kept.sqlite"))
    journal.symlink_to(kept.name)
    kept.write_bytes(b"this is no database " * 1000)
    for suffix in ("-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    corral.restart_worker(guest.name)
    assert client.info(guest.name).epoch != epoch
    assert journal.is_symlink() and kept.read_bytes().startswith(b"SQLite")
    (aside,) = journal.parent.glob("journal.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert "the journal is corrupt" in corral.workers[guest.name].log
    state = container.state()
    assert (state.status, [one.process for one in state.processes]) == ("running", ["init", "x1"])
    process.kill(signal.SIGKILL)
    assert process.wait().signal == signal.SIGKILL
    container.init.stdin.write(b"x\n")
    assert container.wait().code == 8
    assert container.init.stdout.read() == b"out\n"
    aside.unlink()


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_journal_that_is_gone_is_said_loudly_and_what_runs_goes_on(corral: CorralSystem, client: Client, guest: Guest, left: str) -> None:
    container = guest.run("adopt", spec=corral.spec("sh", "-c", "read x; exit 8"), stdio=StdioOptions(stdin=True))
    epoch = client.info(guest.name).epoch
    corral.workers[guest.name].kill()
    for file in corral.state_dir(guest.name).glob("journal.sqlite*"):
        file.unlink()
    if left != "nothing":  # as a power cut may leave it
        (corral.state_dir(guest.name) / "journal.sqlite").touch()
    corral.restart_worker(guest.name)
    place = client.info(guest.name)
    assert place.epoch != epoch
    assert "their journal is lost" in corral.workers[guest.name].log
    with client.events(after=Cursor(places={guest.name: Place(epoch=place.epoch, seq=0)}), guests=[guest.name]) as events:
        first = next(events)
    assert isinstance(first, Event) and first.data["reason"] == "journal lost"
    container.init.stdin.write(b"x\n")
    assert container.wait().code == 8


def test_a_worker_told_to_end_leaves_its_containers_alone(corral: CorralSystem, guest: Guest) -> None:
    container = guest.run("stays", spec=corral.spec("sh", "-c", "read x; exit 4"), stdio=StdioOptions(stdin=True))
    pid, shim = container.state().pid, corral.shim_pid(guest.name, container.instance)
    assert corral.workers[guest.name].terminate() == 0
    assert Path(f"/proc/{pid}").exists() and Path(f"/proc/{shim}").exists()
    corral.restart_worker(guest.name)
    assert corral.shim_pid(guest.name, container.instance) == shim
    container.init.stdin.write(b"x\n")
    assert container.wait().code == 4


def test_a_worker_told_to_end_without_containers_leaves_nothing_running_and_no_cgroup(new_corral: Callable[..., CorralSystem]) -> None:
    system = new_corral()
    (name,) = system.names
    container = system.client().guest(name).run("c", spec=system.spec("true"))
    container.wait()
    container.delete()
    tops = [Path(mount) / "corral" / name for mount in set(hierarchies().values())]
    assert any(top.exists() for top in tops)
    worker, zygote = system.workers[name].pid, system.zygote_pid(name)
    assert system.workers[name].terminate() == 0
    assert [top for top in tops if top.exists()] == []
    assert zygote is not None
    wait_until(lambda: not processes_at(system.run_dir(name)), "the zygote ends", 5.0)
    assert not Path(f"/proc/{worker}").exists()
