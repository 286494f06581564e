"""Guests that cannot be reached: a pulled cable, a frozen machine, a broker that restarts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from corral import CorralError
from corral_schemas.limits import GUEST_DOWN_S
from corral_testkit.vms import NAMES, Stopwatch, VmFleet, down_reason, is_event, only_events, until

KNOWN_DOWN_S = 0.05
HOST_SLACK_S = 0.5
"""For a test machine that does other things too."""
GIVE_UP_S = 15.0


@pytest.mark.guarantee(14)
def test_a_pulled_cable_and_a_frozen_machine_are_reported_and_no_abandoned_command_runs_later(
    vms: VmFleet, took: Callable[[str, float], None]
) -> None:
    """Both at the same time, on two guests: a guest is down after GUEST_DOWN_S, and that is long."""
    with ThreadPoolExecutor(1) as pool:
        frozen = pool.submit(_a_frozen_machine, vms, took)
        _a_pulled_cable(vms, took)
        frozen.result()


def _a_pulled_cable(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest = vms.client.guest("vm1")
    program = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i + 1)); sleep 0.25; done; exit 3"
    with vms.client.events(guests=["vm1"]) as events, ThreadPoolExecutor(2) as pool:
        container = guest.run("talker", spec=vms.spec("sh", "-c", program))
        waiting = pool.submit(container.wait)
        reading = pool.submit(container.init.stdout.read)
        with vms.pulled_cable("vm1"):
            watch = Stopwatch()
            down_reason(events, "vm1")
            took("guest_down after a pulled cable", watch.s)
            assert watch.s <= GUEST_DOWN_S + 1 + HOST_SLACK_S
            watch = Stopwatch()
            with pytest.raises(CorralError) as refused:
                guest.run("ghost", spec=vms.spec("true"))
            took("guest_unreachable once the guest is known to be down", watch.s)
            assert refused.value.code == "guest_unreachable"
            assert watch.s <= KNOWN_DOWN_S + HOST_SLACK_S
        watch = Stopwatch()
        told = only_events(until(events, is_event("exit", "vm1", "talker")))
        took("the exit that happened meanwhile, after plugging in", watch.s)
        assert waiting.result(90).code == 3
        assert reading.result(90) == b"".join(b"line %d\n" % number for number in range(40))
    assert [event.kind for event in told].count("guest_up") == 1
    assert [state.id for state in guest.list().containers] == ["talker"]


def _a_frozen_machine(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest = vms.client.guest("vm3")
    box = guest.run("box", spec=vms.spec("sh", "-c", "while :; do sleep 1; done"))
    with vms.client.events(guests=["vm3"]) as events:
        with vms.frozen("vm3"):
            watch = Stopwatch()
            with pytest.raises(CorralError) as given_up:
                guest.run("ghost", spec=vms.spec("true"), timeout_s=2)
            assert given_up.value.code in ("deadline_exceeded", "guest_unreachable")
            took("a command with a deadline of 2 s to a frozen guest", watch.s)
            down_reason(events, "vm3")
            took("guest_down after a freeze", watch.s)
            assert watch.s <= GIVE_UP_S + 1 + HOST_SLACK_S
            watch = Stopwatch()
            with pytest.raises(CorralError) as refused:
                box.ps()
            assert (refused.value.code, watch.s < KNOWN_DOWN_S + HOST_SLACK_S) == ("guest_unreachable", True)
        watch = Stopwatch()
        until(events, is_event("guest_up", "vm3"))
        took("guest_up after a thaw", watch.s)
        assert box.exec(["true"], timeout_s=60).wait().code == 0
    assert [(state.id, state.status) for state in guest.list().containers] == [("box", "running")]


def test_a_moment_without_cable_loses_no_command_and_a_moment_frozen_just_passes(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        frozen = pool.submit(_a_moment_frozen, vms)
        _a_moment_without_cable(vms, took)
        frozen.result()


def _a_moment_without_cable(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest = vms.client.guest("vm2")
    with ThreadPoolExecutor(1) as pool:
        with vms.pulled_cable("vm2"):
            running = pool.submit(guest.run, "late", spec=vms.spec("sh", "-c", "echo once"))
            with pytest.raises(TimeoutError):
                running.result(3)
        watch = Stopwatch()
        container = running.result(90)
        took("answer to a command sent into a cut of 3 s, after its end", watch.s)
    assert container.wait().code == 0
    assert container.init.stdout.read() == b"once\n"


def _a_moment_frozen(vms: VmFleet) -> None:
    box = vms.client.guest("vm1").run("box", spec=vms.spec("sleep", "1000"))
    with ThreadPoolExecutor(1) as pool:
        with vms.frozen("vm1"):
            process = pool.submit(box.exec, ["echo", "thawed"])
            with pytest.raises(TimeoutError):
                process.result(2)
        assert process.result(90).stdout.read() == b"thawed\n"


def test_guests_go_on_while_the_broker_restarts(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    with vms.client.events(guests=NAMES) as events, ThreadPoolExecutor(3) as pool:
        made = [
            vms.client.guest(name).run("long", spec=vms.spec("sh", "-c", f"echo a; sleep 2; echo b; exit {number}"))
            for number, name in enumerate(NAMES)
        ]
        waiting = [pool.submit(container.wait) for container in made]
        vms.broker.kill()
        watch = Stopwatch()
        vms.broker.start()
        assert [one.result(90).code for one in waiting] == [0, 1, 2]
        took("three waits answered after a broker's kill -9 and start", watch.s)
        assert [container.init.stdout.read() for container in made] == [b"a\nb\n"] * 3
        took("their output read", watch.s)
        exits: list[str] = []
        while len(exits) < 3:
            item = next(events)
            exits += [name for name in NAMES if is_event("exit", name, "long")(item)]
        assert sorted(exits) == list(NAMES)
        took("their exits in the event stream", watch.s)
