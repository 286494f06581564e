"""A guest that is set back in time, or that exists twice, is noticed: nothing is merged, nothing is run again."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from corral import Event, Resync
from corral.sync.client import Events
from corral_schemas.events import JournalReset
from corral_testkit.shim_driver import wait_until
from corral_testkit.vms import Stopwatch, VmFleet, is_event, until


def reset_and_resync(events: Events, name: str) -> tuple[JournalReset, Resync]:
    """Waits for the first event of a new epoch; the stream says resync before it."""
    items = until(events, is_event("journal_reset", name))
    resyncs = [item for item in items if isinstance(item, Resync) and item.guest == name]
    reset = items[-1]
    assert isinstance(reset, Event) and isinstance(reset.payload, JournalReset)
    assert len(resyncs) == 1, items
    return reset.payload, resyncs[0]


def test_a_disk_that_is_set_back_begins_a_new_epoch(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest, machine = vms.client.guest("vm1"), vms.machines["vm1"]
    guest.run("kept", spec=vms.spec("true")).wait()
    machine.power_off()
    earlier = machine.directory / "earlier.ext4"
    shutil.copyfile(machine.state_disk, earlier)
    vms.start("vm1")
    for number in range(3):
        guest.run(f"undone-{number}", spec=vms.spec("true"), request_id=f"undone-{number}").wait()
    before = guest.list().place
    with vms.client.events(guests=["vm1"]) as events:
        machine.cut_power()
        shutil.copyfile(earlier, machine.state_disk)
        watch = Stopwatch()
        vms.start("vm1")
        reset, resync = reset_and_resync(events, "vm1")
        took("a disk set back, to registered under a new epoch", watch.s)
    after = guest.list().place
    assert after.epoch == resync.place.epoch != before.epoch == reset.previous_epoch
    assert reset.previous_seq < before.seq
    assert [state.id for state in guest.list().containers] == ["kept"]


def test_a_disk_set_back_by_one_start_begins_a_new_epoch(vms: VmFleet) -> None:
    guest, machine = vms.client.guest("vm1"), vms.machines["vm1"]
    machine.power_off()
    earlier = machine.directory / "earlier.ext4"
    shutil.copyfile(machine.state_disk, earlier)
    vms.start("vm1")
    before = guest.list().place
    machine.cut_power()
    shutil.copyfile(earlier, machine.state_disk)
    vms.start("vm1")
    after = guest.list().place
    assert after.epoch != before.epoch


@pytest.mark.guarantee(24)
def test_a_machine_restored_from_a_memory_snapshot_begins_a_new_epoch(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest, machine = vms.client.guest("vm2"), vms.machines["vm2"]
    running = guest.run("running", spec=vms.spec("sleep", "1000"))
    snapshot = machine.snapshot(machine.directory / "snapshot")
    for number in range(3):
        guest.run(f"undone-{number}", spec=vms.spec("true")).wait()
    before = guest.list().place
    with vms.client.events(guests=["vm2"]) as events:
        machine.cut_power()
        watch = Stopwatch()
        machine.restore(snapshot)
        reset, resync = reset_and_resync(events, "vm2")
        took("a memory snapshot restored, to registered under a new epoch", watch.s)
    vms.wait_up({"vm2": ""})
    assert resync.place.epoch != before.epoch == reset.previous_epoch
    assert {state.id: state.status for state in guest.list().containers} == {"running": "running"}
    running.kill(9)
    assert running.wait(90).signal == 9


def test_a_second_machine_with_the_same_identity_is_refused_while_the_first_lives(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest, machine = vms.client.guest("vm3"), vms.machines["vm3"]
    guest.run("first", spec=vms.spec("true")).wait()
    vms.machines["vm1"].cut_power()  # never more than three at once
    machine.power_off()
    twin = vms.another_machine("twin", machine.state_disk)
    vms.start("vm3")
    place = guest.list().place
    first = vms.workers()["vm3"]
    with vms.client.events(guests=["vm3"]) as events:
        vms.clone(twin, "vm3")
        wait_until(lambda: "refused this worker: guest_busy" in twin.console, "the twin is refused", 90)
        assert next(one.warnings for one in vms.client.guests() if one.guest == "vm3") == ["another worker claims this name and is refused"]
        box = guest.run("second", spec=vms.spec("sh", "-c", "echo $$; sleep 1000"))
        assert (vms.workers()["vm3"], box.place and box.place.epoch) == (first, place.epoch)
        machine.cut_power()
        watch = Stopwatch()
        _, resync = reset_and_resync(events, "vm3")
        took("the second of two machines with one identity takes over after the first's end", watch.s)
    vms.wait_up({"vm3": first})
    assert resync.place.epoch != place.epoch
    assert [state.id for state in guest.list().containers] == ["first"]
    twin.cut_power()
