"""Deleting a stopped container without a run of the runtime, and when that must not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral_testkit.shim_driver import Guest, ShimDriver, wait_until

pytestmark = pytest.mark.runc


def _delete(shim: ShimDriver, argv: list[str]) -> None:
    shim.do("delete", argv=argv, log=str(shim.log), timeout_ms=10_000, plain_runc=True)
    shim.wait_gone()


def _nothing_is_left(shim: ShimDriver) -> bool:
    cgroups = [path for path in shim.guest.cgroups() if path.name == shim.instance]
    return not cgroups and not (shim.guest.run_dir / "runc" / shim.instance).exists()


def _witness(tmp_path: Path, then: str = "") -> tuple[list[str], Path]:
    """A runtime that leaves a trace of having been called."""
    trace = tmp_path / "called"
    return ["/bin/sh", "-c", f"echo called >> {trace}; {then or 'true'}"], trace


@pytest.mark.parametrize("shared_pid_namespace", [False, True])
def test_a_stopped_container_is_removed_without_the_runtime(guest: Guest, tmp_path: Path, shared_pid_namespace: bool) -> None:
    shim = guest.fork()
    init = shim.run(["sh", "-c", "sleep 1000 & exit 3"], bundle={"shared_pid_namespace": shared_pid_namespace})
    assert shim.notice("exit", init)["exit"]["code"] == 3
    argv, trace = _witness(tmp_path, then=" ".join(shim.runtime("delete", "--force", shim.instance)))
    _delete(shim, argv)
    assert _nothing_is_left(shim)
    assert not trace.exists() or shared_pid_namespace  # what init left behind there may take a moment to die
    wait_until(lambda: not guest.container_pids(), "nothing of it lives")


def test_cgroups_that_the_container_made_below_its_own_are_removed_with_it(guest: Guest, tmp_path: Path) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    for cgroup in guest.cgroups():
        (cgroup / "below" / "further").mkdir(parents=True)
    argv, trace = _witness(tmp_path)
    _delete(shim, argv)
    assert not trace.exists()
    assert _nothing_is_left(shim)


def test_poststop_hooks_are_run_by_the_runtime(guest: Guest, tmp_path: Path) -> None:
    shim, trace = guest.fork(), tmp_path / "hook"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {trace}"]}
    init = shim.run(["true"], bundle={"hooks": {"poststop": [hook]}})
    shim.notice("exit", init)
    _delete(shim, shim.runtime("delete", "--force", shim.instance))
    assert shim.instance in trace.read_text()
    assert _nothing_is_left(shim)


def test_a_container_that_was_only_created_is_ended_by_the_runtime(guest: Guest) -> None:
    shim = guest.fork()
    shim.create(["sleep", "1000"])
    shim.do("delete", argv=shim.runtime("delete", "--force", shim.instance), log=str(shim.log), timeout_ms=10_000, plain_runc=True)
    assert shim.wire.wait_for(lambda message: message["t"] == "exit")["exit"]["signal"] == 9
    assert _nothing_is_left(shim)
    shim.wait_gone()


def test_a_state_that_is_not_as_known_is_left_to_the_runtime(guest: Guest, tmp_path: Path) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    state = guest.run_dir / "runc" / shim.instance / "state.json"
    state.write_text(state.read_text().replace('"Hooks"', '"HooksOfAnotherKind"'))
    argv, trace = _witness(tmp_path, then=" ".join(shim.runtime("delete", "--force", shim.instance)))
    _delete(shim, argv)
    assert trace.exists()
    assert _nothing_is_left(shim)
