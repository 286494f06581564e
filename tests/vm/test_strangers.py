"""Who else is in a cgroup that a bundle names, on cgroup v2 alone: it lives on, or the bundle is refused for its reason (G26)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import ContainerSpec, CorralError, Mount
from corral.sync.container import Container
from corral.sync.guest import Guest
from corral_testkit.bundles import make_bundle
from corral_testkit.shim_driver import wait_until
from corral_testkit.vms import ROOTFS, VmFleet

NAMED, OCCUPIED = "/strangers/same", "/strangers/occupied"
CGROUPS = Mount(source="/sys/fs/cgroup", destination="/sys/fs/cgroup")
FILES = Mount(source="/tmp", destination="/tmp")
MEMORY_BYTES = 64 << 20
Bundle = Callable[..., str]


@pytest.fixture
def guest(vms: VmFleet) -> Guest:
    return vms.client.guest("vm1")


@pytest.fixture
def hand(guest: Guest) -> Container:
    """By which the test reaches the guest's files and cgroups."""
    return guest.run("hand", spec=ContainerSpec(rootfs=ROOTFS, args=["sleep", "1000"], mounts=[CGROUPS, FILES]))


@pytest.fixture
def bundle(hand: Container, tmp_path: Path) -> Bundle:
    """Makes a bundle in the guest that names the cgroup in which the stranger is."""
    made: list[str] = []

    def make(*argv: str, **settings: object) -> str:
        place = f"/tmp/strangers-{len(made)}"
        local = make_bundle(tmp_path / place[5:], list(argv), **{"rootfs": Path(ROOTFS), "cgroups_path": NAMED, **settings})  # type: ignore[arg-type]
        hand.run(["mkdir", "-p", place]).check()
        hand.copy_in(local / "config.json", f"{place}/config.json")
        made.append(place)
        return place

    return make


def stranger_in(guest: Guest, cgroup: str) -> Container:
    """One that has gone there by itself: Corral does not know of it."""
    directory = f"/sys/fs/cgroup{cgroup}"
    script = f"mkdir -p {directory} && echo 0 > {directory}/cgroup.procs && echo there && exec sleep 1000"
    container = guest.run("stranger", spec=ContainerSpec(rootfs=ROOTFS, args=["sh", "-c", script], mounts=[CGROUPS]))
    assert next(container.init.stdout.lines()) == b"there"
    return container


def refused(work: Callable[[], object]) -> CorralError:
    with pytest.raises(CorralError) as refusal:
        work()
    return refusal.value


@pytest.mark.guarantee(26)
def test_the_others_in_a_named_cgroup_of_v2_live_through_failures_ends_and_force(guest: Guest, hand: Container, bundle: Bundle) -> None:
    stranger = stranger_in(guest, f"{NAMED}/stranger")
    other = guest.run("a", bundle=bundle("sleep", "1000", memory_limit_bytes=MEMORY_BYTES))
    assert (other.stats().memory_limit_bytes, [one.pid for one in other.ps()]) == (MEMORY_BYTES, [other.init.pid])

    for work in (guest.create, guest.run):
        assert refused(lambda work=work: work("b", bundle=bundle("/nonexistent"))).code == "command_not_found"  # type: ignore[misc]
    leaves = guest.run("b", bundle=bundle("sh", "-c", "sleep 1000 & exit 3", shared_pid_namespace=True))
    assert leaves.wait().code == 3
    wait_until(lambda: leaves.ps() == [], "what init left behind is dead")
    leaves.delete()
    stubborn = guest.run("b", bundle=bundle("sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
    assert stubborn.stop(0.1).signal == signal.SIGKILL
    stubborn.delete()
    paused = guest.run("b", bundle=bundle("sleep", "1000"))
    paused.pause()
    assert other.run(["true"]).exit.code == 0
    paused.delete(force=True)

    assert [one.state().status for one in (stranger, other)] == ["running", "running"]
    listed = hand.run(["sh", "-c", f"cd /sys/fs/cgroup{NAMED}; ls -d */; cat stranger/cgroup.procs | wc -l"]).check().stdout.split()
    assert listed == [f"corral-{other.instance}/".encode(), b"stranger/", b"1"]


@pytest.mark.guarantee(26)
def test_a_cgroup_of_v2_that_has_processes_itself_is_refused_and_stays_as_it_is(guest: Guest, hand: Container, bundle: Bundle) -> None:
    stranger = stranger_in(guest, OCCUPIED)
    look = ["sh", "-c", f"cd /sys/fs/cgroup{OCCUPIED}; cat cgroup.type cgroup.subtree_control; ls -d */ 2> /dev/null; true"]
    before = hand.run(look).check().stdout
    for cgroup in (OCCUPIED, f"{OCCUPIED}/below"):
        failure = refused(lambda cgroup=cgroup: guest.run("b", bundle=bundle("true", cgroups_path=cgroup)))  # type: ignore[misc]
        assert failure.code == "bundle_invalid" and "processes of others" in failure.message
    assert hand.run(look).check().stdout == before
    assert stranger.state().status == "running"
