"""Deleting a stopped container without a run of the runtime, and when that must not be."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("member", ["cgroup_paths", "config"])
def test_a_state_that_is_not_as_known_is_left_to_the_runtime(guest: Guest, tmp_path: Path, member: str) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    state = guest.run_dir / "runc" / shim.instance / "state.json"
    known = state.read_text()
    state.write_text(known.replace(f'"{member}"', f'"{member}_of_another_kind"'))
    script = tmp_path / "runtime"  # which knows it
    script.write_text(f"cat {tmp_path}/known > {state}; {' '.join(shim.runtime('delete', '--force', shim.instance))}")
    (tmp_path / "known").write_text(known)
    argv, trace = _witness(tmp_path, then=f"sh {script}")
    _delete(shim, argv)
    assert trace.exists()
    assert _nothing_is_left(shim)


def test_what_newer_runtimes_leave_out_of_the_state_there_is_none_of(guest: Guest, tmp_path: Path) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    _leave_out(guest.run_dir / "runc" / shim.instance / "state.json", "Systemd", "Hooks", "intel_rdt_path")
    argv, trace = _witness(tmp_path)
    _delete(shim, argv)
    assert not trace.exists()
    assert _nothing_is_left(shim)


def test_hooks_that_only_the_bundle_tells_of_are_run_by_the_runtime(guest: Guest, tmp_path: Path) -> None:
    shim = guest.fork()
    init = shim.run(["true"], bundle={"hooks": {"poststop": [{"path": "/bin/true"}]}})
    shim.notice("exit", init)
    _leave_out(guest.run_dir / "runc" / shim.instance / "state.json", "Hooks")
    argv, trace = _witness(tmp_path, then=" ".join(shim.runtime("delete", "--force", shim.instance)))
    _delete(shim, argv)
    assert trace.exists()
    assert _nothing_is_left(shim)


def test_a_runtime_that_fails_after_it_has_deleted_everything_has_deleted_it_and_what_it_says_is_a_warning(guest: Guest) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    said = """{"level":"error","msg":"error running poststop hook #0: exit status 7"}"""
    script = f"{' '.join(shim.runtime('delete', '--force', shim.instance))}; echo '{said}' >> {shim.log}; exit 1"
    ok = shim.do("delete", argv=["/bin/sh", "-c", script], log=str(shim.log), timeout_ms=10_000)
    assert ok == {"warning": "error running poststop hook #0: exit status 7"}
    shim.wait_gone()


def test_a_runtime_that_fails_and_leaves_it_there_has_not_deleted_it(guest: Guest) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    response = shim.response(shim.request("delete", argv=["/bin/sh", "-c", "exit 1"], log=str(shim.log), timeout_ms=10_000))
    assert response["error"]["exit_status"] == 1
    shim.verb("delete", "--force")


def test_a_runtime_that_fails_where_there_was_nothing_to_delete_fails(guest: Guest) -> None:
    shim = guest.fork()
    response = shim.response(shim.request("delete", argv=["/bin/sh", "-c", "exit 1"], log=str(shim.log), timeout_ms=10_000))
    assert response["error"]["exit_status"] == 1


def _leave_out(state_file: Path, *names: str) -> None:
    state = json.loads(state_file.read_text())
    for members in (state, state["config"], state["config"]["cgroups"]):
        for name in names:
            members.pop(name, None)
    state_file.write_text(json.dumps(state, separators=(",", ":")))
