"""A runtime that hangs: answered by the deadline, cleaned up, and nobody else the worse for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import CorralError
from corral_schemas.commands import CancelArgs, CancelReply, RunArgs
from corral_schemas.limits import DEADLINE_GRACE_S
from corral_schemas.queries import ResultArgs, ResultReply
from corral_testkit.remains import cgroups_of
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc

HANGS_WHEN_TOLD = """#!/bin/sh
for word; do
    case "$word" in create|run|exec) [ -e {flag} ] && sleep {hang_s} ;; esac
done
exec runc "$@"
"""
HANG_S = 123_123_123
"""So long that no other program sleeps as long."""


def command_lines() -> dict[int, str]:
    """pid → command line of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                found[int(entry.name)] = (entry / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return found


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """While it exists, the runtime hangs in create, run and exec."""
    return tmp_path / "flag"


@pytest.fixture
def system(new_corral: Callable[..., CorralSystem], tmp_path: Path, flag: Path) -> CorralSystem:
    wrapper = tmp_path / "runc"
    wrapper.write_text(HANGS_WHEN_TOLD.format(flag=flag, hang_s=HANG_S))
    wrapper.chmod(0o755)
    return new_corral(worker_options=("--runtime", str(wrapper)))


def test_a_hanging_runtime_is_cut_off_at_the_deadline_and_leaves_nothing(system: CorralSystem, flag: Path) -> None:
    (name,) = system.names
    client = system.client()
    guest = client.guest(name)
    keeper = guest.run("keeper", spec=system.spec("sleep", "1000"))
    flag.touch()
    for work in (
        lambda: guest.run("hangs", spec=system.spec("true"), timeout_s=0.5, request_id="hanging"),
        lambda: keeper.exec(["true"], process="hangs", timeout_s=0.5),
    ):
        began_s = time.monotonic()
        with pytest.raises(CorralError) as failure:
            work()
        assert failure.value.code == "deadline_exceeded"
        assert 0.45 < time.monotonic() - began_s < 0.5 + DEADLINE_GRACE_S + 0.3
    flag.unlink()

    def result() -> ResultReply:
        reply = client.call(name, "result", ResultArgs(id="hanging"))
        assert isinstance(reply, ResultReply)
        return reply

    wait_until(lambda: result().state == "done", "the command that was given up ends", 5.0)
    late = result().error
    assert late is not None and late.code == "deadline_exceeded"
    assert keeper.exec(["true"], process="hangs").wait().code == 0
    assert guest.run("hangs", spec=system.spec("sh", "-c", "exit 3")).wait().code == 3
    guest.container("hangs").delete()
    assert [pid for pid, line in command_lines().items() if line == f"sleep {HANG_S}"] == []
    keeper.delete(force=True)
    wait_until(lambda: cgroups_of(name) == [], "every cgroup is gone", 5.0)


@pytest.mark.guarantee(15)
def test_other_containers_go_on_while_one_hangs_and_cancel_cuts_it_off(system: CorralSystem, flag: Path) -> None:
    (name,) = system.names
    client = system.client()
    guest = client.guest(name)
    keeper = guest.run("keeper", spec=system.spec("sleep", "1000"))
    flag.touch()
    with pytest.raises(CorralError):
        client.call(name, "run", RunArgs(container="hangs", spec=system.spec("true")), timeout_s=0.3, request_id="r1")
    began_s = time.monotonic()
    keeper.pause()
    keeper.resume()
    assert keeper.state().status == "running"
    keeper.kill(9)
    assert keeper.wait().signal == 9
    assert time.monotonic() - began_s < 2.0
    outcome = client.call(name, "cancel", CancelArgs(id="r1"))
    assert isinstance(outcome, CancelReply) and outcome.outcome == "too_late"
    flag.unlink()
    wait_until(lambda: [one.id for one in guest.list().containers] == ["keeper"], "what was cut off is removed", 10.0)
    shim = f"corral-shim {name} hangs"  # it waits until the worker has stored the removal; the next worker would find it otherwise
    wait_until(lambda: shim not in command_lines().values(), "its shim has ended", 10.0)
