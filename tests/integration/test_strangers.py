"""Who else is in a cgroup that a bundle names: nothing Corral does to its container harms him (G26)."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral import CorralError
from corral.sync.guest import Guest
from corral_testkit.remains import kill_and_wait
from corral_testkit.shim_driver import wait_until
from corral_testkit.strangers import Stranger, new_cgroup, stranger_in
from corral_testkit.system import CorralSystem
from corral_worker.shim.cgroup.cgroup import hierarchies

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]

IGNORES_TERM = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
LEAVES_ONE_BEHIND = ("sh", "-c", "sleep 1000 & exit 3")
Bundle = Callable[..., str]


@pytest.fixture
def guest(corral: CorralSystem) -> Guest:
    return corral.client().guest(corral.names[0])


@pytest.fixture
def named() -> str:
    return new_cgroup()


@pytest.fixture
def stranger(named: str) -> Iterator[Stranger]:
    with stranger_in(named) as stranger:
        yield stranger


@pytest.fixture
def bundle(bundle_dir: Callable[..., Path], named: str) -> Bundle:
    """A bundle that names the cgroup in which the stranger is."""
    return lambda *argv, **settings: str(bundle_dir(*argv, **{"cgroups_path": named, **settings}))


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(CorralError) as refusal:
        work()
    return refusal.value.code


def failed_create(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    assert refused(lambda: guest.create("b", bundle=bundle("/nonexistent"))) == "command_not_found"


def failed_run(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    assert refused(lambda: guest.run("b", bundle=bundle("/nonexistent"))) == "command_not_found"


def failed_run_without_a_pid_namespace(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    assert refused(lambda: guest.run("b", bundle=bundle("/nonexistent", shared_pid_namespace=True))) == "command_not_found"


def create_above(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    above = str(Path(json.loads(Path(bundle("true"), "config.json").read_bytes())["linux"]["cgroupsPath"]).parent)
    assert refused(lambda: guest.create("b", bundle=bundle("/nonexistent", cgroups_path=above))) == "command_not_found"


def delete(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("true"))
    container.wait()
    container.delete()


def delete_of_a_created_one(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    guest.create("b", bundle=bundle("sleep", "1000")).delete()


def delete_by_force(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    guest.run("b", bundle=bundle("sleep", "1000")).delete(force=True)


def delete_by_force_of_a_paused_one(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("sleep", "1000"))
    container.pause()
    container.delete(force=True)


def kill_all(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("sh", "-c", "sleep 1000 & sleep 1000; true", shared_pid_namespace=True))
    container.kill(signal.SIGKILL, all=True)
    assert container.wait().signal == signal.SIGKILL
    container.delete()


def stop_past_its_grace(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle(*IGNORES_TERM))
    assert container.stop(0.1).signal == signal.SIGKILL
    container.delete()


def pause_and_resume(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("sleep", "1000"))
    container.pause()
    assert guest.container("a").exec(["true"]).wait(10).code == 0  # it is not frozen with it
    container.resume()
    container.delete(force=True)


def natural_exit_without_a_pid_namespace(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle(*LEAVES_ONE_BEHIND, shared_pid_namespace=True))
    assert container.wait().code == 3
    wait_until(lambda: container.ps() == [], "what init left behind is dead")
    container.delete()


def natural_end_of_one_that_deletes_itself(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle(*LEAVES_ONE_BEHIND, shared_pid_namespace=True), auto_delete=True)
    assert container.wait().code == 3
    wait_until(lambda: [one.id for one in guest.list().containers] == ["a"], "it is deleted")


def a_dead_shim(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("sleep", "1000"))
    kill_and_wait(system.shim_pid(guest.name, container.instance))
    assert container.wait(10).type == "lost"
    container.delete()


def a_dead_zygote_and_then_a_dead_shim(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("sleep", "1000", shared_pid_namespace=True))
    zygote = system.zygote_pid(guest.name)
    assert zygote is not None
    kill_and_wait(zygote)
    kill_and_wait(system.shim_pid(guest.name, container.instance))
    assert container.wait(10).type == "lost"
    wait_until(lambda: container.ps() == [], "what the shim left behind is dead")
    container.delete()


def a_dead_shim_while_there_is_no_worker(system: CorralSystem, guest: Guest, bundle: Bundle) -> None:
    container = guest.run("b", bundle=bundle("sleep", "1000"))
    system.workers[guest.name].kill()
    kill_and_wait(system.shim_pid(guest.name, container.instance))
    system.restart_worker(guest.name)
    assert container.wait(10).type == "lost"
    container.delete()


ACTS = (
    failed_create,
    failed_run,
    failed_run_without_a_pid_namespace,
    create_above,
    delete,
    delete_of_a_created_one,
    delete_by_force,
    delete_by_force_of_a_paused_one,
    kill_all,
    stop_past_its_grace,
    pause_and_resume,
    natural_exit_without_a_pid_namespace,
    natural_end_of_one_that_deletes_itself,
    a_dead_shim,
    a_dead_zygote_and_then_a_dead_shim,
    a_dead_shim_while_there_is_no_worker,
)


@pytest.mark.guarantee(26)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_the_others_in_a_named_cgroup_live_through(
    corral: CorralSystem,
    guest: Guest,
    bundle: Bundle,
    stranger: Stranger,
    named: str,
    act: Callable[[CorralSystem, Guest, Bundle], None],
) -> None:
    other = guest.run("a", bundle=bundle("sleep", "1000"))
    pid = other.init.pid
    act(corral, guest, bundle)
    assert stranger.as_before
    assert (other.state().status, other.state().pid, Path(f"/proc/{pid}").exists()) == ("running", pid, True)
    other.delete(force=True)
    assert stranger.as_before
    assert _below(named) == []


@pytest.mark.guarantee(26)
def test_the_others_live_through_a_reboot_that_only_the_journal_knows_of(
    corral: CorralSystem, guest: Guest, bundle: Bundle, stranger: Stranger, named: str
) -> None:
    container = guest.run("b", bundle=bundle("sleep", "1000", shared_pid_namespace=True))
    corral.workers[guest.name].kill()
    zygote = corral.zygote_pid(guest.name)
    assert zygote is not None
    for pid in (zygote, corral.shim_pid(guest.name, container.instance)):
        kill_and_wait(pid)
    with sqlite3.connect(corral.state_dir(guest.name) / "journal.sqlite") as journal:
        journal.execute("UPDATE meta SET value = ? WHERE key = 'boot_id'", (b"an earlier boot",))
    journal.close()
    corral.restart_worker(guest.name)
    assert container.wait(10).type == "lost"
    container.delete(force=True)
    assert stranger.as_before
    assert _below(named) == []


@pytest.mark.guarantee(26)
def test_processes_and_figures_are_those_of_one_container(corral: CorralSystem, guest: Guest, bundle: Bundle, stranger: Stranger) -> None:
    containers = [guest.run(name, bundle=bundle("sleep", "1000")) for name in ("a", "b")]
    for container in containers:
        assert [one.pid for one in container.ps()] == [container.init.pid]
        assert container.stats().pids in (1, None)
    containers[0].pause()
    assert [container.state().status for container in containers] == ["paused", "running"]
    corral.restart_worker(guest.name)
    assert [container.state().status for container in containers] == ["paused", "running"]
    assert stranger.as_before
    containers[0].resume()
    for container in containers:
        container.delete(force=True)


@pytest.mark.parametrize("relative", [False, True])
def test_a_cgroup_that_was_made_for_them_goes_with_the_last_container_in_it(
    guest: Guest, bundle: Bundle, named: str, relative: bool
) -> None:
    path = named.lstrip("/") if relative else named
    first, second = (guest.run(name, bundle=bundle("sleep", "1000", cgroups_path=path)) for name in ("a", "b"))
    assert {one.name for one in _below(named)} == {f"corral-{one.instance}" for one in (first, second)}
    first.delete(force=True)
    assert {one.name for one in _below(named)} == {f"corral-{second.instance}"}
    second.delete(force=True)
    assert not any(Path(mount + named).parent.exists() for mount in hierarchies().values())


@pytest.mark.guarantee(26)
def test_a_failed_create_leaves_no_cgroup_that_it_named(guest: Guest, bundle: Bundle, named: str) -> None:
    assert refused(lambda: guest.run("a", bundle=bundle("/nonexistent"))) == "command_not_found"
    assert not any(Path(mount + named).parent.exists() for mount in hierarchies().values())


@pytest.mark.guarantee(26)
def test_a_frozen_cgroup_is_refused_and_stays_frozen(guest: Guest, bundle: Bundle, stranger: Stranger) -> None:
    paths = {name: path for name in ("cgroup.freeze", "freezer.state") for top in stranger.directories if (path := top / name).exists()}
    name, file = paths.popitem()
    frozen, thawed = ("FROZEN", "THAWED") if name == "freezer.state" else ("1", "0")
    file.write_text(frozen)
    try:
        wait_until(lambda: file.read_text().strip() == frozen, "it is frozen")
        assert refused(lambda: guest.run("b", bundle=bundle("true"))) == "bundle_invalid"
        assert file.read_text().strip() == frozen
    finally:
        file.write_text(thawed)
    assert stranger.as_before


@pytest.mark.guarantee(26)
def test_where_the_stranger_is_in_the_named_cgroup_itself_a_container_starts_or_is_refused_and_the_cgroup_stays_as_it_is(
    guest: Guest, bundle: Bundle, named: str
) -> None:
    with stranger_in(named, directly=True) as stranger:
        before = _settings_of(stranger)
        if set(hierarchies()) == {""}:  # below what has processes the kernel allows none with controllers
            assert refused(lambda: guest.run("b", bundle=bundle("true"))) == "bundle_invalid"
            assert refused(lambda: guest.run("b", bundle=bundle("true", cgroups_path=f"{named}/below"))) == "bundle_invalid"
        else:
            container = guest.run("b", bundle=bundle("sleep", "1000"))
            container.delete(force=True)
        assert stranger.as_before
        assert (_settings_of(stranger), _below(named)) == (before, [])


@pytest.mark.guarantee(26)
def test_what_is_corrals_cannot_be_named(corral: CorralSystem, guest: Guest, bundle: Bundle, named: str) -> None:
    other = guest.run("a", spec=corral.spec("sleep", "1000"))
    mine = guest.run("b", bundle=bundle("sleep", "1000"))
    for path in (
        f"/corral/{guest.name}",
        "/corral",
        "corral/x",
        "/x/../corral/y",
        "//corral",
        f"{named}/corral-{mine.instance}/x",
        7,
        ["/x"],
    ):
        assert refused(lambda path=path: guest.run("c", bundle=bundle("/nonexistent", cgroups_path=path))) == "bundle_invalid"  # type: ignore[misc]
    assert [one.state().status for one in (other, mine)] == ["running", "running"]


def test_allowed_roots_hold_for_the_cgroup_that_a_bundle_names(
    new_corral: Callable[..., CorralSystem], bundle: Bundle, rootfs: Path, tmp_path: Path, stranger: Stranger, named: str
) -> None:
    allowed = [str(path) for path in (rootfs, tmp_path, *stranger.directories)]
    system = new_corral(worker_options=[word for path in allowed for word in ("--allow-root", path)])
    guest = system.client().guest(system.names[0])
    for path in (f"{named}/x", named):
        container = guest.run("a", bundle=bundle("sleep", "1000", cgroups_path=path))
        container.delete(force=True)
    for path in (str(Path(named).parent), f"{named}/../other", "/x"):
        assert refused(lambda path=path: guest.run("a", bundle=bundle("true", cgroups_path=path))) == "bundle_invalid"  # type: ignore[misc]
    guest.run("a", bundle=bundle("true", cgroups_path=None)).wait()


@pytest.mark.guarantee(26)
def test_a_container_that_somebody_runs_by_hand_where_corral_has_its_own_is_not_taken_for_a_leftover(
    corral: CorralSystem, guest: Guest, bundle: Bundle
) -> None:
    root = corral.run_dir(guest.name) / "runc"
    runc = ["runc", "--root", str(root)]
    kept = root / ".kept-by-a-runtime"
    kept.mkdir()
    made = bundle("sleep", "1000", cgroups_path=None)
    subprocess.run([*runc, "run", "--detach", "--bundle", made, "by-hand"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        guest.run("a", spec=corral.spec("true"), auto_delete=True).wait()
        corral.restart_worker(guest.name)
        state = json.loads(subprocess.run([*runc, "state", "by-hand"], check=True, capture_output=True).stdout)
        assert (state["status"], kept.exists()) == ("running", True)
    finally:
        subprocess.run([*runc, "delete", "--force", "by-hand"], check=True)
        kept.rmdir()


def _settings_of(stranger: Stranger) -> list[str]:
    files = [top / name for top in stranger.directories for name in ("cgroup.type", "cgroup.subtree_control")]
    return [file.read_text() for file in files if file.exists()]


def _below(named: str) -> list[Path]:
    """The cgroups in the one that is named, but for the stranger's."""
    tops = [Path(mount + named) for mount in set(hierarchies().values())]
    return [path for top in tops if top.is_dir() for path in top.iterdir() if path.is_dir() and path.name != "stranger"]
