"""`corral guests`: who is there, and who has left for good."""

import json
from pathlib import Path

import pytest

from corral_testkit.cli import Up, end_up, start_up
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
