"""The client for Node, written from PROTOCOL.md alone: over ipc and with keys it does what the page's hour promises."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from corral.cli.keys import key_directory
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem
from corral_testkit.wire_peers import Keys, RawClient
from hostile.keyed_broker import KeyedBroker

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".venv" / "node-client" / "node_modules"
SAID = b"".join(b"%d\n" % number for number in range(1, 100_001))

pytestmark = [
    pytest.mark.skipif(not shutil.which("node") or not PACKAGES.is_dir(), reason="needs node and its zeromq (deploy/setup.sh tests)"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def keyed() -> Iterator[KeyedBroker]:
    with (
        tempfile.TemporaryDirectory(prefix="crl", dir="/tmp") as directory,
        KeyedBroker(Path(directory)) as made,
    ):  # sockets' paths are short
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The example's directory as it is after `npm ci`."""
    there = tmp_path / "node"
    shutil.copytree(ROOT / "client" / "examples" / "node", there, ignore=shutil.ignore_patterns("node_modules"))
    (there / "node_modules").symlink_to(PACKAGES)
    return there


def node(program: Path, name: str, *argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["node", name, *argv], cwd=program, capture_output=True, timeout=60, check=False)


def report_of(program: Path, argv: Sequence[str]) -> dict[str, Any]:
    """What hour.mjs tells at its end, once its output and status are as they should be."""
    done = node(program, "hour.mjs", *argv)
    assert (done.returncode, done.stdout == SAID) == (7, True), done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    assert report["bytes"] == {"stdout": len(SAID), "stderr": len("done\n")}
    assert report["kinds"] == ["created", "started", "exit", "deleted"]
    assert report["whole"] and report["replayed"] >= 1, report
    return report


def test_its_decoder_passes_the_golden_samples_of_its_level(program: Path) -> None:
    done = node(program, "golden.mjs", str(ROOT / "tests" / "schemas" / "golden"))
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout.split()[0]) > 500


@pytest.mark.runc
def test_over_ipc_it_runs_reads_waits_and_has_every_event_though_it_loses_some(program: Path, corral: CorralSystem) -> None:
    report_of(program, [corral.address, corral.names[0], str(corral.rootfs)])


@pytest.mark.runc
def test_with_keys_it_does_the_same(program: Path, keyed: KeyedBroker, rootfs: Path) -> None:
    home = keyed.directory.parent
    pair = key_directory.make_key_file(home / "alice.key", "alice")
    key_directory.accept(keyed.directory, pair.public, name="alice", role="operator", guest="")
    keys = Keys(pair.public, pair.secret, keyed.server)
    keyed.until_known(keys)
    (home / "token").write_text(key_directory.make_token(keyed.directory, "g1", 600))
    (home / "token").chmod(0o600)
    places = ["--state-dir", str(home / "s"), "--run-dir", str(home / "r"), "--durability", "process"]
    enrol = ["--server-key", str(keyed.directory / "broker.public"), "--token-file", str(home / "token")]
    command = [sys.executable, "-m", "corral_worker", "--guest", "g1", "--broker", keyed.address, *places, *enrol]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            with RawClient(keyed.address, keys=keys) as asker:
                wait_until(lambda: any(guest.up for guest in asker.guests().guests), "the guest is up")
            server = str(keyed.directory / "broker.public")
            report_of(program, [keyed.address, "g1", str(rootfs), str(home / "alice.key"), server])
        finally:
            worker.terminate()
            worker.wait(20)
