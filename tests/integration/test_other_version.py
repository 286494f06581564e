"""A worker of one version takes over what runs under shims and a zygote of another: after an upgrade, and after going back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral import StdioOptions
from corral_testkit.another_version import PACKAGES
from corral_testkit.shim_driver import Wire
from corral_testkit.system import CorralSystem
from corral_worker.shim.zygote.zygote import ZYGOTE_SOCKET

pytestmark = pytest.mark.runc

OLDER = "b71838bd582d0f9864ffa8bf2db5b9f42b61ca43"
"""The first commit whose files stand where they stand today; its messages carry no version."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The packages of that commit."""
    tree = tmp_path_factory.mktemp("older")
    there = subprocess.run(["git", "-C", ROOT, "cat-file", "-e", f"{OLDER}^{{commit}}"], capture_output=True)
    if there.returncode != 0:
        pytest.skip("the older version is not in this clone")
    archive = subprocess.run(["git", "-C", ROOT, "archive", OLDER, *PACKAGES], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    yield tree


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgraded", "gone back"])
def test_what_runs_is_taken_over_by_a_worker_of_another_version(
    new_corral: Callable[..., CorralSystem], older: Path, upgrade: bool
) -> None:
    system = new_corral(worker_tree=older if upgrade else None)
    name = system.names[0]
    guest = system.client().guest(name)
    container = guest.run("c", spec=system.spec("sh", "-c", "echo one; read x; echo $x; exit 7"), stdio=StdioOptions(stdin=True))
    lines = container.init.stdout.lines()
    assert next(lines) == b"one"
    process = container.exec(["sleep", "1000"])
    paused = guest.run("paused", spec=system.spec("sleep", "1000"))
    paused.pause()

    assert has_version(system, name, container.instance) != upgrade
    system.workers[name].kill()
    os.kill(process.pid, signal.SIGTERM)  # that it ends is noticed while no worker listens
    system.run_workers_from(None if upgrade else older)
    system.restart_worker(name)

    guest = system.client().guest(name)
    assert (str(older) in Path(f"/proc/{system.workers[name].pid}/cmdline").read_text()) != upgrade
    assert has_version(system, name, container.instance) != upgrade
    assert process.wait(20).signal == signal.SIGTERM
    assert (container.state().status, paused.state().status) == ("running", "paused")
    container.init.stdin.write(b"two\n")
    assert list(container.init.stdout.lines()) == [b"one", b"two"]
    assert container.wait(20).code == 7
    paused.resume()
    assert paused.exec(["true"]).wait(20).code == 0
    paused.update({"pids": {"limit": 50}})
    assert paused.stop(0).signal == signal.SIGKILL
    for one in (container, paused):
        one.delete()
    fresh = guest.run("fresh", spec=system.spec("true"))  # its shim is forked by the zygote of the other version
    assert fresh.wait(20).code == 0
    fresh.delete()
    assert guest.list().containers == []


def has_version(system: CorralSystem, guest: str, instance: str) -> bool:
    """The guest's zygote states a version, as today's do."""
    zygote = Wire(system.run_dir(guest) / ZYGOTE_SOCKET)
    zygote.send({"t": "fork", "instance": instance, "name": "c"})
    answer = zygote.wait_for(lambda message: message["t"] == "forked")
    zygote.close()
    return "version" in answer
