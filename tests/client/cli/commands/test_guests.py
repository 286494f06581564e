"""`corral guests`: who is there, and who has left for good."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from corral_testkit.cli import Terminal, Up, end_up, processes_naming, start_up
from corral_testkit.wire_peers import FakeWorker

pytestmark = pytest.mark.runc


def listed(up: Up) -> dict[str, bool]:
    return {record["guest"]: record["up"] for record in map(json.loads, up.corral("guests").stdout.splitlines())}


def test_guests_that_left_for_good_are_forgotten_for_good(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs, guests=1)
    try:
        for name in ("vm-7", "vm-8", "vm-9"):
            with FakeWorker(up.address, name) as worker:
                worker.register()
        up.until(lambda: listed(up) == {"g1": True, "vm-7": False, "vm-8": False, "vm-9": False})
        ps = up.corral("ps")
        assert (ps.returncode, "3 guests away: vm-7, vm-8, vm-9" in ps.stderr) == (0, True)
        refused = up.corral("guests", "forget", "vm-7", "g1")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "guest_connected: connected, so that nothing was forgotten: g1" in refused.stderr
        done = up.corral("guests", "forget", "vm-7", "vm-8", "vm-8")
        assert (done.returncode, done.stdout, done.stderr) == (0, "vm-7\nvm-8\n", "")
        unknown = up.corral("guests", "forget", "vm-99", "vm-9")
        assert (unknown.returncode, unknown.stdout) == (1, "vm-9\n")
        assert "no guest vm-99 is known" in unknown.stderr
        assert listed(up) == {"g1": True}
        assert up.corral("ps").stderr == ""
        with FakeWorker(up.address, "vm-7") as worker:  # it has come back
            worker.register()
            assert listed(up) == {"g1": True, "vm-7": True}
    finally:
        assert end_up(up) == 0


@pytest.mark.parametrize("args", [("--json", "forget", "vm-7"), ("forget",), ("forgte", "vm-7"), ("vm-7",)])
def test_wrong_usage_is_said(up: Up, args: tuple[str, ...]) -> None:
    said = up.corral("guests", *args)
    assert (said.returncode, said.stdout) == (2, ""), said.stderr


def test_when_and_why_a_guest_was_away_is_told_after_the_broker_was_killed(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs, guests=1)
    try:
        began_ns = time.time_ns()
        with FakeWorker(up.address, "vm-7") as worker:
            worker.register(labels={"zone": "b"})
            worker.goodbye("upgrade")
        up.until(lambda: listed(up).get("vm-7") is False)
        (broker,) = [pid for pid, line in processes_naming(str(short_directory)) if "-m corral_broker " in line]
        os.kill(broker, signal.SIGKILL)
        up.until(lambda: up.corral("info", "g1").returncode == 0)
        with FakeWorker(up.address, "vm-7") as worker:
            worker.register()
            asked = ("events", "--since", "1h", "--guest", "vm-7", "--kind", "guest_up", "--kind", "guest_down")
            told = [json.loads(line) for line in up.corral(*asked, "--no-follow", "--json").stdout.splitlines()]
            shown = [(one["kind"], one["data"].get("reason", "")) for one in told]
            assert shown == [("guest_up", ""), ("guest_down", "said goodbye: upgrade"), ("guest_up", "")]
            assert all(began_ns <= one["time_ns"] <= time.time_ns() for one in told)
            rest = up.corral("events", "--no-follow", "--after", told[1]["cursor"], "--json", "--kind", "guest_up", "--guest", "vm-7")
            assert [json.loads(line)["seq"] for line in rest.stdout.splitlines()] == [told[2]["seq"]]
            with Terminal(*asked, environment=up.environment) as terminal:
                terminal.expect(b"zone=b")
                terminal.expect(b"said goodbye: upgrade")
                terminal.expect(b"guest_up")
                worker.goodbye("again")
                terminal.expect(b"said goodbye: again")
        of_the_broker = up.corral("events", "--no-follow", "--kind", "broker_started", "--json")
        assert [json.loads(line)["data"].get("previous") for line in of_the_broker.stdout.splitlines()] == [None, "died"]
        whole = up.corral("events", "--since", "1h", "--no-follow", "--format", "{kind}")
        assert whole.returncode == 0 and {"worker_started", "guest_down", "broker_started"} <= set(whole.stdout.split())
        assert "1 guest away: vm-7" in whole.stderr
        by_name = up.corral("events", "--no-follow", "--guest", "vm-7", "--format", "{kind}")
        assert (by_name.returncode, by_name.stdout.split()[-1]) == (1, "guest_down")
        assert "guest vm-7 is down, and its journal cannot be read" in by_name.stderr
    finally:
        assert end_up(up) == 0
