"""Every verb in every state on real runc: done, or refused with its code, and the state afterwards as it must be."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral import Client, CorralError, StdioOptions
from corral_schemas.queries import ResultArgs, ResultReply
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem
from corral_testkit.verbs import AFTERWARDS, BUSY, NONE, STATES, TABLE, TTY, VERBS, Place, code_of, placed, state_of

pytestmark = pytest.mark.runc


def test_the_table_has_every_cell_once() -> None:
    assert set(TABLE) == set(VERBS)
    assert all(tuple(row) == STATES for row in TABLE.values())


@pytest.mark.guarantee(17)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", TABLE)
def test_each_verb_in_each_state(corral: CorralSystem, bundle_dir: Callable[..., Path], verb: str, state: str) -> None:
    place = placed(corral.client(), corral.names[0], bundle_dir("sleep", "1000", tty=True), state)
    assert state_of(place) == state
    assert code_of(VERBS[verb], place) == TABLE[verb][state]
    assert state_of(place) == AFTERWARDS.get((verb, state), state)


def test_ps_shows_init_while_it_lives_and_nothing_once_it_has_stopped(corral: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    client = corral.client()
    for state in STATES[1:]:
        place = placed(client, corral.names[0], bundle_dir("sleep", "1000", tty=True), state)
        found = place.container.ps()
        assert [one.process for one in found] == ([] if state == "stopped" else ["init"])
        assert [one.pid for one in found] == ([] if state == "stopped" else [place.container.state().pid])
        place.container.delete(force=True)


def test_a_container_paused_before_its_start_is_created_again_after_resume(corral: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    place = placed(corral.client(), corral.names[0], bundle_dir("sh", "-c", "exit 5"), "absent")
    container = place.guest.create(place.container.name, bundle=place.bundle)
    container.pause()
    assert code_of(VERBS["start"], place) == BUSY
    container.resume()
    assert container.state().status == "created"
    container.start()
    assert container.wait().code == 5


def test_a_signal_that_is_caught_changes_nothing(corral: CorralSystem) -> None:
    script = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done"
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sh", "-c", script))
    lines = container.init.stdout.lines()
    assert next(lines) == b"ready"
    assert container.kill(signal.SIGUSR1).outcome == "delivered"
    assert next(lines) == b"caught"
    assert container.state().status == "running"


def test_a_verb_that_names_an_older_instance_finds_nothing(corral: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    bundle = str(bundle_dir("sleep", "1000", tty=True))
    guest = corral.client().guest(corral.names[0])
    old = guest.run("c", bundle=bundle, stdio=TTY)
    old.delete(force=True)
    new = guest.run("c", bundle=bundle, stdio=TTY)
    assert new.instance != old.instance
    for verb, work in VERBS.items():
        if verb not in ("create", "run", "wait"):
            assert code_of(work, Place(guest, old, bundle)) == NONE, verb
    assert old.wait().signal == signal.SIGKILL
    assert new.state().status == "running"


def test_all_of_kill_reaches_every_process(corral: CorralSystem) -> None:
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sh", "-c", "sleep 1000 & sleep 1000 & wait"))
    process = container.exec(["sleep", "1000"])
    container.kill(signal.SIGKILL, all=True)
    assert container.wait().signal == signal.SIGKILL
    assert process.wait().signal == signal.SIGKILL
    assert container.ps() == []
    assert container.kill(signal.SIGKILL, all=True).outcome == "already_exited"


def test_signal_zero_says_whether_a_process_lives_and_harms_none(corral: CorralSystem) -> None:
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sleep", "1000"))
    process = container.exec(["cat"], stdio=StdioOptions(stdin=True))
    assert process.kill(0).outcome == container.kill(0).outcome == container.kill(0, all=True).outcome == "delivered"
    process.stdin.close()
    assert process.wait().code == 0
    with pytest.raises(CorralError) as gone:
        process.kill(0)
    assert (gone.value.code, gone.value.details["outcome"]) == ("process_not_found", "already_exited")
    assert container.kill(0).outcome == "delivered"


def test_an_exec_that_ignores_a_pause_begins_at_the_resume_and_holds_up_no_other_command(corral: CorralSystem) -> None:
    client = corral.client()
    guest = client.guest(corral.names[0])
    container = guest.run("c", spec=corral.spec("sleep", "1000"))
    container.pause()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(container.exec, ["echo", "resumed"], ignore_paused=True, request_id="late")
        wait_until(lambda: is_under_way(client, guest.name, "late"), "it waits")
        with pytest.raises(CorralError, match=r"by its deadline|until the deadline"):
            container.exec(["true"], ignore_paused=True, timeout_s=0.5)
        container.update({"pids": {"limit": 100}})
        assert (container.state().status, waiting.done()) == ("paused", False)
        container.resume()
        process = waiting.result(10)
    assert list(process.stdout.lines()) == [b"resumed"]
    assert container.exec(["true"], ignore_paused=True).wait().code == 0


def test_an_exec_that_waits_for_a_resume_survives_a_worker_and_ends_with_its_container(corral: CorralSystem) -> None:
    client = corral.client()
    guest = client.guest(corral.names[0])
    container = guest.run("c", spec=corral.spec("sleep", "1000"))
    container.pause()
    with ThreadPoolExecutor() as pool:
        pool.submit(container.exec, ["echo", "once"], process="once", ignore_paused=True, request_id="once")
        wait_until(lambda: is_under_way(client, guest.name, "once"), "it waits")
        corral.restart_worker(guest.name)
        waiting = pool.submit(
            container.exec, ["echo", "once"], process="once", ignore_paused=True, request_id="once"
        )  # the first may have been given up
        container.resume()
        assert list(waiting.result(20).stdout.lines()) == [b"once"]
        container.pause()
        doomed = pool.submit(container.exec, ["true"], ignore_paused=True, request_id="doomed")
        wait_until(lambda: is_under_way(client, guest.name, "doomed"), "it waits")
        container.delete(force=True)
        with pytest.raises(CorralError, match=r"stopped|no container"):
            doomed.result(10)


def is_under_way(client: Client, guest: str, request: str) -> bool:
    reply = client.call(guest, "result", ResultArgs(id=request))
    return isinstance(reply, ResultReply) and reply.state == "running"
