"""What people do every day, in a guest with cgroup v2 alone, by either runtime that Debian has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral import Chunk, ContainerSpec, CorralError
from corral.sync.container import Container
from corral.sync.guest import Guest
from corral_testkit.vms import ROOTFS, Stopwatch, VmFleet, is_event, only_events, until
from corral_vm.machine import Machine
from corral_worker.reconcile.drift import INTERVAL_S

LIVES_ON = "trap 'exit 3' TERM; echo up; sleep 1000 & wait"
MEMORY_BYTES = 64 << 20
PIDS = 20
LOOKED_S = 2 * INTERVAL_S
"""In this time the worker has compared its containers with the runtime's."""


@pytest.fixture(params=["runc", "crun"])
def guest(request: pytest.FixtureRequest, vms: VmFleet, tmp_path: Path) -> Iterator[Guest]:
    """vm3, or another machine of its name with a worker on crun."""
    if request.param == "runc":
        yield vms.client.guest("vm3")
        return
    former = vms.workers()["vm3"]
    vms.machines["vm3"].cut_power()
    with Machine(vms.image, tmp_path / "by-crun") as machine:
        vms.clone(machine, "vm3", "--runtime=crun")
        vms.wait_up({"vm3": former})
        assert "crun" in str(vms.client.info("vm3").about["runtime"])
        yield vms.client.guest("vm3")


def code_of(work: Callable[[], object]) -> str:
    with pytest.raises(CorralError) as failure:
        work()
    return failure.value.code


def box(guest: Guest, name: str) -> Container:
    """One that has begun, and ends with 3 when it is told to."""
    spec = ContainerSpec(rootfs=ROOTFS, args=["sh", "-c", LIVES_ON], memory_bytes=MEMORY_BYTES, pids_limit=PIDS)
    made = guest.run(name, spec=spec)
    first = next(iter(made.init.output(stderr=None)))
    assert isinstance(first, Chunk) and first.data == b"up\n"
    return made


def test_run_exec_copy_figures_and_stop(guest: Guest, tmp_path: Path) -> None:
    container = box(guest, "box")
    done = container.run(["sh", "-c", "cat; echo err >&2; exit 9"], stdin=b"in")
    assert (done.stdout, done.stderr, done.exit.code) == (b"in", b"err\n", 9)

    (tmp_path / "there").write_bytes(b"copied\n" * 1000)
    container.copy_in(tmp_path / "there", "/tmp/there")
    container.copy_out("/tmp/there", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()

    figures = container.stats()
    assert (figures.memory_limit_bytes, figures.pids_limit) == (MEMORY_BYTES, PIDS)
    assert figures.cpu_ns and figures.memory_bytes and figures.pids
    assert len(container.ps(all=True)) == figures.pids == 2

    assert container.stop(grace_s=60).code == 3
    assert container.wait().code == 3
    assert code_of(lambda: container.exec(["true"])) == "container_not_running"
    container.delete()
    assert guest.list().containers == []


def test_what_cannot_be_started_is_said_by_its_code(vms: VmFleet, guest: Guest) -> None:
    for program, code in (("nosuch", "command_not_found"), ("/no/such", "command_not_found"), ("/etc/passwd", "command_not_executable")):
        assert code_of(lambda program=program: guest.run("bad", spec=vms.spec(program))) == code  # type: ignore[misc]
    container = box(guest, "box")
    for program, code in (("nosuch", "command_not_found"), ("/etc/passwd", "command_not_executable")):
        assert code_of(lambda program=program: container.exec([program])) == code  # type: ignore[misc]
    assert code_of(container.start) == "container_still_running"
    assert code_of(container.delete) == "container_not_stopped"
    assert code_of(container.resume) == "container_invalid_state"
    container.delete(force=True)
    assert guest.list().containers == []


def test_a_paused_container_stays_so_until_it_is_resumed_and_is_killed_while_paused(vms: VmFleet, guest: Guest) -> None:
    container = box(guest, "box")
    with vms.client.events(guests=["vm3"], kinds=["paused", "resumed", "exit"]) as events:
        container.pause()
        watch = Stopwatch()
        while watch.s < LOOKED_S:
            assert container.state().status == "paused"
            assert len(container.ps(all=True)) == 2
            assert guest.run("beside", spec=vms.spec("true"), auto_delete=True).wait().code == 0
        assert code_of(lambda: container.exec(["true"])) == "container_invalid_state"
        container.resume()
        assert container.run(["echo", "on"]).stdout == b"on\n"
        container.pause()
        container.kill(9)
        assert container.wait().signal == 9
        seen = only_events(until(events, is_event("exit", "vm3", "box", "init")))
    assert [event.kind for event in seen if event.header.container == "box" and event.header.process in ("", "init")] == [
        "paused",
        "resumed",
        "paused",
        "exit",
    ]
    container.delete()
