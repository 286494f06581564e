"""Another runtime with runc's command line: crun, where it runs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import CorralError, Event, StdioOptions
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc

WITHOUT_HYBRID = """#!/bin/sh
exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2> /dev/null; exec crun "$@"' crun "$@"
"""
"""crun 1.8 refuses a machine that has both kinds of cgroups mounted; so it is shown only one."""


@pytest.fixture
def crun(tmp_path: Path) -> str:
    if shutil.which("crun") is None:
        pytest.skip("needs crun")
    wrapper = tmp_path / "crun"
    wrapper.write_text(WITHOUT_HYBRID)
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.fixture
def system(new_corral: Callable[..., CorralSystem], crun: str) -> CorralSystem:
    return new_corral(worker_options=("--runtime", crun, "--runtime-arg=--cgroup-manager=disabled"))


def code_of(work: Callable[[], object]) -> str:
    with pytest.raises(CorralError) as failure:
        work()
    return failure.value.code


def test_containers_run_on_crun_as_on_runc(system: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    (name,) = system.names
    client = system.client()
    guest = client.guest(name)
    assert "crun" in str(client.info(name).about["runtime"])

    container = guest.create(
        "c", bundle=str(bundle_dir("sh", "-c", "echo out; echo err >&2; read x; exit 7")), stdio=StdioOptions(stdin=True)
    )
    assert container.state().status == "created"
    assert code_of(lambda: guest.create("c", bundle=str(bundle_dir("true")))) == "container_already_exists"
    container.start()
    assert code_of(container.start) == "container_still_running"
    process = container.exec(["sh", "-c", "echo in; exit 3"])
    assert (process.wait().code, process.stdout.read()) == (3, b"in\n")
    assert code_of(lambda: container.exec(["nosuch"])) == "command_not_found"
    assert code_of(lambda: container.exec(["/etc/passwd"])) == "command_not_executable"
    assert code_of(container.delete) == "container_not_stopped"
    assert code_of(container.pause) == "runtime_failed"  # without cgroups it cannot; its text is kept
    container.init.stdin.write(b"x\n")
    assert container.wait().code == 7
    assert (container.init.stdout.read(), container.init.stderr.read()) == (b"out\n", b"err\n")
    assert code_of(lambda: container.exec(["true"])) == "container_not_running"
    container.delete()

    for program, code in (("nosuch", "command_not_found"), ("/etc/passwd", "command_not_executable")):
        began_s = time.monotonic()
        assert code_of(lambda program=program: guest.run("bad", spec=system.spec(program))) == code  # type: ignore[misc]
        assert time.monotonic() - began_s < 1.0
    assert guest.list().containers == []

    tty = guest.run("tty", spec=system.spec("sh", "-c", "read x; stty size"), stdio=StdioOptions(tty=True, stdin=True))
    tty.init.resize(7, 8)
    tty.init.stdin.write(b"x\n")
    assert tty.wait().code == 0
    assert tty.init.stdout.read().endswith(b"7 8\r\n")

    killed = guest.run("killed", spec=system.spec("sleep", "1000"))
    system.restart_worker(name)
    killed.kill(signal.SIGKILL)
    assert killed.wait().signal == signal.SIGKILL


def test_stop_past_its_grace_and_deletion_by_force_reach_init_where_no_cgroup_is_made(system: CorralSystem) -> None:
    guest = system.client().guest(system.names[0])
    ignores_term = system.spec("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    first, second = guest.run("first", spec=ignores_term), guest.run("second", spec=ignores_term)
    for container in (first, second):
        assert next(container.init.stdout.lines()) == b"up"
    assert first.stop(0.1).signal == signal.SIGKILL
    first.delete()
    began_s = time.monotonic()
    second.delete(force=True)
    assert time.monotonic() - began_s < 5.0
    assert not Path(f"/proc/{second.init.pid}").exists()


def test_with_cgroups_what_is_read_from_them_is_there_and_a_paused_container_stays_paused(
    new_corral: Callable[..., CorralSystem], crun: str
) -> None:
    system = new_corral(worker_options=("--runtime", crun))
    client = system.client()
    guest = client.guest(system.names[0])
    container = guest.run("c", spec=system.spec("sleep", "1000"))
    assert [one.pid for one in container.ps()] == [container.init.pid]
    assert container.stats().pids == 1
    container.pause()
    other = guest.run("other", spec=system.spec("sleep", "1000"))
    with client.events(guests=[guest.name], kinds=["paused", "resumed"]) as events:
        by_hand = [crun, "--root", str(system.run_dir(guest.name) / "runc"), "pause", other.instance]
        subprocess.run(by_hand, check=True)
        seen = [next(events)]  # all were looked at
        system.restart_worker(guest.name)
        container.resume()
        seen.append(next(events))
    happened = [(event.header.container, event.header.kind) for event in seen if isinstance(event, Event)]
    assert happened == [("other", "paused"), ("c", "resumed")]
    for one in (container, other):
        one.delete(force=True)
