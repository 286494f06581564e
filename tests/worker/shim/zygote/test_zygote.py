"""What the zygote keeps ready, and what it leaves: a spare shim, sockets that listen at once, no cgroups of the guest."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from corral_testkit.remains import readable
from corral_testkit.shim_driver import Guest, ShimDriver, Wire, new_instance, wait_until
from corral_worker.shim.base.linux import process_table
from corral_worker.shim.base.wire import VERSION
from corral_worker.shim.cgroup.cgroup import guest_cgroup, hierarchies, remove_guest_cgroups
from corral_worker.shim.listener import pid_of_listener
from corral_worker.shim.zygote.nursery import LIVES_MAX

pytestmark = pytest.mark.runc


def _spares(guest: Guest) -> list[int]:
    children = [pid for pid, row in process_table().items() if row.parent == guest.zygote_pid and not row.zombie]
    return [pid for pid in children if _name(pid) == "corral-spare"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _one_spare(guest: Guest) -> int:
    wait_until(lambda: len(_spares(guest)) == 1, "there is a spare")
    return _spares(guest)[0]


def _ended(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")  # noqa: PTH110


def test_the_spare_is_no_shim_until_it_is_named_and_then_another_takes_its_place(own_guest: Guest) -> None:
    spare = _one_spare(own_guest)
    assert own_guest.ask({"t": "list"})["shims"] == {}
    assert list((own_guest.run_dir / "s").iterdir()) == []
    shim = own_guest.fork()
    assert shim.pid == spare
    assert pid_of_listener(own_guest.run_dir / "s" / f"{shim.instance}.sock") == spare
    assert Path(f"/proc/{spare}/cmdline").read_bytes().rstrip(b"\0") == b"corral-shim g1 web"
    assert own_guest.ask({"t": "list"})["shims"] == {shim.instance: spare}
    assert _one_spare(own_guest) != spare
    shim.run(["true"])
    shim.notice("exit")
    shim.verb("delete")
    shim.wait_gone()


@pytest.mark.parametrize("how", ["quit", "kill"])
def test_the_spare_ends_with_its_zygote(own_guest: Guest, how: str) -> None:
    spare, zygote = _one_spare(own_guest), own_guest.zygote_pid
    if how == "quit":
        own_guest.zygote.send({"t": "quit"})
    else:
        os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: _ended(spare) and _ended(zygote), "both end")
    own_guest.zygote.close()
    own_guest.start()
    assert _one_spare(own_guest) != spare


def test_a_spare_that_was_killed_is_missed_by_nobody(own_guest: Guest) -> None:
    spare = _one_spare(own_guest)
    os.kill(spare, signal.SIGKILL)
    wait_until(lambda: _ended(spare), "it was reaped")
    shims = [own_guest.fork() for _ in range(3)]
    assert len({spare, *(shim.pid for shim in shims)}) == 4
    assert not [message for message in own_guest.zygote.arrived() if message["t"] == "shim_gone"]


def test_who_connects_waits_in_the_backlog_of_a_shim_that_has_not_begun(own_guest: Guest) -> None:
    spare, instance = _one_spare(own_guest), new_instance()
    os.kill(spare, signal.SIGSTOP)
    assert own_guest.ask({"t": "fork", "instance": instance, "name": "web"}) == {
        "t": "forked",
        "instance": instance,
        "pid": spare,
        "version": VERSION,
    }
    wire = Wire(own_guest.run_dir / "s" / f"{instance}.sock")
    wire.send({"t": "hello", "generation": 1, "guest": own_guest.name})
    assert not readable(wire.socket.fileno(), 0)
    os.kill(spare, signal.SIGCONT)
    assert wire.wait_for(lambda message: message["t"] == "state")["pid"] == spare
    wire.close()


def test_the_death_of_a_shim_that_never_began_is_told(own_guest: Guest) -> None:
    spare, instance = _one_spare(own_guest), new_instance()
    os.kill(spare, signal.SIGSTOP)
    own_guest.ask({"t": "fork", "instance": instance, "name": "web"})
    os.kill(spare, signal.SIGKILL)
    gone = own_guest.zygote.wait_for(lambda message: message["t"] == "shim_gone")
    assert gone == {"t": "shim_gone", "instance": instance, "status": signal.SIGKILL}
    assert not (own_guest.run_dir / "s" / f"{instance}.sock").exists()
    assert isinstance(own_guest.fork(instance), ShimDriver)


def test_a_zygote_that_was_killed_in_its_rehearsal_leaves_nothing_in_the_way(own_guest: Guest) -> None:
    own_guest.zygote.send({"t": "quit"})
    zygote = own_guest.zygote_pid
    wait_until(lambda: _ended(zygote), "it ended")
    own_guest.zygote.close()
    left = own_guest.run_dir / "rehearsal" / "instances" / "rehearsal0"
    left.mkdir(parents=True)
    (left / "record").touch()
    own_guest.start()
    own_guest.fork()
    assert not (own_guest.run_dir / "rehearsal").exists()
    assert "rehearsal" not in own_guest.log


def test_the_cgroups_of_a_guest_go_when_no_container_is_left_in_them(tmp_path: Path) -> None:
    guest = f"test-{os.urandom(4).hex()}"
    own = guest_cgroup(guest, tmp_path).lstrip("/")
    places = [Path(mount) / own for mount in set(hierarchies().values())]
    assert places
    for place in places:
        (place / "container").mkdir(parents=True, exist_ok=True)
    remove_guest_cgroups(guest, tmp_path)
    assert all((place / "container").exists() for place in places)
    for place in places:
        (place / "container").rmdir() if (place / "container").exists() else None
    remove_guest_cgroups(guest, tmp_path)
    assert not [place for place in places if place.exists()]


def test_a_shim_whose_container_was_deleted_serves_the_next_one_as_if_it_were_new(own_guest: Guest) -> None:
    first = own_guest.fork()
    for code in (3, 4):
        shim = first if code == 3 else own_guest.fork()
        assert shim.pid == first.pid
        init = shim.run(["sh", "-c", f"echo {code}; exit {code}"])
        told = shim.notice("exit", init)
        assert (told["n"], told["exit"]["code"], shim.output(init)) == (1, code, b"%d\n" % code)
        shim.verb("delete")
        shim.wait_gone()
        wait_until(lambda shim=shim: shim.instance not in own_guest.ask({"t": "list"})["shims"], "the zygote knows of its end")  # type: ignore[misc]
        assert not (own_guest.run_dir / "s" / f"{shim.instance}.sock").exists()
    open_files = [str(entry.readlink()) for entry in Path(f"/proc/{first.pid}/fd").iterdir()]
    assert sum(name.startswith("socket:") for name in open_files) == 1, open_files  # its channel alone


def test_a_shim_that_still_has_children_serves_no_other_container(own_guest: Guest) -> None:
    shim, trace = own_guest.fork(), own_guest.run_dir / "left"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"(sleep 1000 & echo $! > {trace}) </dev/null >/dev/null 2>&1"]}
    init = shim.run(["true"], bundle={"hooks": {"createRuntime": [hook]}})
    shim.notice("exit", init)
    shim.verb("delete")
    shim.wait_gone()
    wait_until(lambda: _ended(shim.pid), "it ends")
    left = int(trace.read_text())
    assert not _ended(left)
    os.kill(left, signal.SIGKILL)
    wait_until(lambda: _ended(left), "the zygote reaps what it left")


def test_shims_that_are_free_again_end_in_time_but_for_one(own_guest: Guest) -> None:
    shims = [own_guest.fork() for _ in range(3)]
    for shim in shims:
        shim.notice("exit", shim.run(["true"]))
        shim.verb("delete")
        shim.wait_gone()
    wait_until(lambda: len(_spares(own_guest)) >= 3, "they are spares")
    wait_until(lambda: len(_spares(own_guest)) == 1, "they end", timeout_s=15)


def test_a_spare_that_has_served_and_is_killed_is_no_dead_shim(own_guest: Guest) -> None:
    shim = own_guest.fork()
    shim.notice("exit", shim.run(["true"]))
    shim.verb("delete")
    shim.wait_gone()
    wait_until(lambda: shim.pid in _spares(own_guest), "it is free")
    os.kill(shim.pid, signal.SIGKILL)
    wait_until(lambda: _ended(shim.pid), "it was reaped")
    assert own_guest.fork().pid != shim.pid
    assert not [message for message in own_guest.zygote.arrived() if message["t"] == "shim_gone"]


def test_a_shim_in_its_last_life_is_not_given_another_name(own_guest: Guest) -> None:
    """It would take the name with it to its end, and with the name a container that nobody serves."""
    pids: list[int] = []
    while len(set(pids)) < 3:
        assert len(pids) < 4 * LIVES_MAX, "shims are said to end after so many containers"
        shim = own_guest.fork()
        pids.append(shim.pid)
        shim.verb("delete", "--force")
    assert max(pids.count(pid) for pid in pids) <= LIVES_MAX
