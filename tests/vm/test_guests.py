"""Three real guests at once: containers, execs, terminals, events."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral import StdioOptions
from corral_testkit.cli import Terminal
from corral_testkit.shim_driver import wait_until
from corral_testkit.vms import NAMES, ROOTFS, Stopwatch, VmFleet, is_event, only_events, until

WORKER_MIB_MAX = 64
SLOW_SHARE = 0.1
CORRAL = str(Path(sys.executable).with_name("corral"))


def test_three_guests_run_containers_at_the_same_time(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    def run(number: int) -> tuple[bytes, bytes, int | None]:
        container = vms.client.guest(NAMES[number % 3]).run(
            f"c{number}", spec=vms.spec("sh", "-c", f"echo {number}; echo e >&2; exit {number}")
        )
        return container.init.stdout.read(), container.init.stderr.read(), container.wait().code

    watch = Stopwatch()
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [(b"%d\n" % number, b"e\n", number) for number in range(6)]
    took("6 containers on 3 guests at once, run to output and exit", watch.s)
    assert {info.labels["kind"] for info in vms.client.guests()} == {"vm"}


def test_events_of_all_guests_come_in_one_stream_and_none_is_missing(vms: VmFleet) -> None:
    with vms.client.events(guests=NAMES, broker_events=False) as events:
        for name in NAMES:
            vms.client.guest(name).run("short", spec=vms.spec("true"), auto_delete=True)
        seen = []
        deleted: set[str] = set()
        while deleted != set(NAMES):
            seen.append(next(events))
            deleted |= {name for name in NAMES if is_event("deleted", name)(seen[-1])}
    for name in NAMES:
        of_guest = [event for event in only_events(seen) if event.guest == name]
        assert [event.kind for event in of_guest if event.kind != "stdio_end"] == ["created", "started", "exit", "deleted"]
        first = of_guest[0].header.seq
        assert [event.header.seq for event in of_guest] == list(range(first, first + len(of_guest)))


def test_an_exec_runs_beside_init_and_both_exits_are_told(vms: VmFleet) -> None:
    container = vms.client.guest("vm2").run("box", spec=vms.spec("sleep", "1000"))
    with vms.client.events(guests=["vm2"]) as events:
        process = container.exec(["sh", "-c", "cat; exit 9"], process="job", stdio=StdioOptions(stdin=True))
        process.stdin.write(b"over the wire")
        process.stdin.close()
        assert process.stdout.read() == b"over the wire"
        assert process.wait().code == 9
        container.kill(9)
        kinds = [event.kind for event in only_events(until(events, is_event("exit", "vm2", "box", "init"))) if event.kind != "stdio_end"]
    assert kinds == ["exec_started", "exit", "exit"]
    assert (container.wait().type, container.wait().signal) == ("signalled", 9)


def test_a_person_types_into_a_terminal_in_a_guest(vms: VmFleet) -> None:
    vms.client.guest("vm3").run("box", spec=vms.spec("sleep", "1000"))
    with Terminal("exec", "-it", "vm3/box", "sh", environment={"CORRAL_BROKER": vms.address}, rows=31, columns=97) as terminal:
        terminal.type(b"stty size; echo in-$((40 + 2))\n")
        terminal.expect(b"31 97", 60)
        terminal.expect(b"in-42", 60)
        terminal.type(b"exit 5\n")
        assert terminal.end(60) == 5


def test_a_worker_in_a_guest_is_small(vms: VmFleet) -> None:
    pid = int(vms.machines["vm1"].shell("cat /var/lib/corral/vm1/lock"))
    smaps = vms.machines["vm1"].shell(f"cat /proc/{pid}/smaps_rollup")
    found = re.search(r"^Rss:\s+(\d+) kB", smaps, re.MULTILINE)
    assert found is not None, smaps
    assert int(found[1]) <= WORKER_MIB_MAX << 10


def test_a_batch_runs_once_in_every_guest(vms: VmFleet, tmp_path: Path, took: Callable[[str, float], None]) -> None:
    argv = [CORRAL, "batch", "run", "--broker", vms.address, "--base", str(tmp_path), "--select", "kind=vm", "--json"]
    watch = Stopwatch()
    done = subprocess.run([*argv, "--rootfs", ROOTFS, "--", "sh", "-c", "echo in {guest}"], capture_output=True, timeout=120, check=False)
    took("batch over 3 guests, a container in each, from and to the command line", watch.s)
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert sorted((one["guest"], one["outcome"], one["attempts"]) for one in ended) == [(name, "ok", 1) for name in NAMES]


def test_a_slow_guest_holds_up_nobody_else_and_answers_in_the_end(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    with vms.slowed("vm2", SLOW_SHARE), ThreadPoolExecutor(1) as pool:
        watch = Stopwatch()
        slow = pool.submit(vms.client.guest("vm2").run, "slow", spec=vms.spec("sh", "-c", "echo at last; exit 4"), timeout_s=60)
        for name in ("vm1", "vm3"):
            assert vms.client.guest(name).run("quick", spec=vms.spec("true"), timeout_s=60).wait().code == 0
            assert not slow.done()
        took("2 containers one after the other on guests beside a slow one", watch.s)
        container = slow.result(90)
        assert (container.init.stdout.read(), container.wait().code) == (b"at last\n", 4)
        took("a container on a guest that gets a tenth of the time", watch.s)
        assert all(info.up for info in vms.client.guests())


def test_a_wrong_clock_is_listed_with_the_guest(vms: VmFleet) -> None:
    vms.machines["vm3"].shell("date -s @$(($(date +%s) - 3600))")

    def warnings() -> list[str]:
        return next(info.warnings for info in vms.client.guests() if info.guest == "vm3")

    moved = vms.client.guest("vm3").run("moved", spec=vms.spec("true"))  # a guest where something moves tells of itself within a second
    wait_until(lambda: any(re.fullmatch(r"its clock is 3\d{3} s behind the broker's", one) for one in warnings()), "the clock is told", 60)
    vms.machines["vm3"].shell("date -s @$(($(date +%s) + 3600))")
    moved.delete(force=True)
    wait_until(lambda: not warnings(), "it is right again", 60)
