"""`corral bundle`, `corral cp` and `corral run --image` as they are typed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


class Typed:
    """Commands against one broker."""

    def __init__(self, system: CorralSystem) -> None:
        self._environment = {**os.environ, "CORRAL_BROKER": system.address}

    def __call__(self, *args: object, status: int = 0) -> tuple[str, str]:
        """(stdout, stderr) of `corral ARGS`."""
        argv = [sys.executable, "-c", "from corral.cli.main import main; main()", *map(str, args)]
        done = subprocess.run(
            argv, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == status, (args, done.stdout, done.stderr)
        return done.stdout, done.stderr


@pytest.fixture
def corral(system: CorralSystem) -> Typed:
    return Typed(system)


def test_push_list_run_inspect_rm_and_gc(system: CorralSystem, corral: Typed, tmp_path: Path) -> None:
    one, two = system.names
    said, _ = corral("bundle", "push", system.rootfs, "--name", "bb", "--select", "all")
    lines = sorted(line.split() for line in said.splitlines())
    assert [line[:2] for line in lines] == [[one, "bb:latest"], [two, "bb:latest"]] and all("sent" in line for line in lines)
    assert "was there" in corral("bundle", "push", system.rootfs, "--name", "bb", "-g", one)[0]
    rows = [json.loads(line) for line in corral("bundle", "list", "--json")[0].splitlines()]
    assert [(row["guest"], row["names"], row["state"]) for row in rows] == [(one, ["bb:latest"], "whole"), (two, ["bb:latest"], "whole")]
    assert "bb:latest" in corral("bundle", "list", "--format", "table")[0]
    assert corral("run", "--rm", "-g", one, "--image", "bb", "--", "sh", "-c", "touch /x && echo hello; exit 3", status=3)[0] == "hello\n"
    assert "Read-only" in corral("run", "--rm", "-g", one, "--image", "bb", "--read-only", "touch", "/x", status=1)[1]
    shown = [json.loads(line) for line in corral("bundle", "inspect", "--files", "bb")[0].splitlines()]
    assert sorted(row["guest"] for row in shown) == [one, two]
    assert {"bin/busybox", "bin/sh"} < {entry["path"] for entry in shown[0]["entries"]}
    corral("create", "-g", one, "--name", "holder", "--image", "bb", "true")
    assert "holder" in corral("bundle", "rm", "bb", "--select", "all", status=1)[1]
    corral("delete", f"{one}/holder")
    assert "nothing to remove" in corral("bundle", "gc", "-g", one)[0]
    assert "freed" in corral("bundle", "rm", "bb", "-g", one)[0]
    assert "no bundle bb" in corral("bundle", "inspect", "bb", status=1)[1]


def test_a_file_goes_in_and_comes_out(system: CorralSystem, corral: Typed, tmp_path: Path) -> None:
    guest = system.names[0]
    (tmp_path / "a:b").write_text("hello\n")
    corral("run", "-d", "-g", guest, "--name", "box", "--rootfs", system.rootfs, "--overlay", "sleep", "1000")
    corral("cp", tmp_path / "a:b", f"{guest}/box:/root/")
    assert corral("exec", "box", "cat", "/root/a:b")[0] == "hello\n"
    corral("cp", "box:/root/a:b", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "hello\n"
    assert "file_not_found" in corral("cp", "box:/none", tmp_path / "x", status=1)[1]
    assert "No such file" in corral("cp", "box:/root/a:b", tmp_path / "no" / "where", status=1)[1]
    corral("delete", "--force", "box")


def test_a_copy_that_is_ended_leaves_nothing_beside_its_goal(system: CorralSystem, corral: Typed, tmp_path: Path) -> None:
    guest = system.names[0]
    corral("run", "-d", "-g", guest, "--name", "vast", "--rootfs", system.rootfs, "--overlay", "sleep", "1000")
    corral("exec", "vast", "truncate", "-s", "8G", "/vast")
    goals = tmp_path / "goals"
    goals.mkdir()
    argv = [sys.executable, "-c", "from corral.cli.main import main; main()", "cp", "vast:/vast", str(goals)]
    with subprocess.Popen(argv, env={**os.environ, "CORRAL_BROKER": system.address}, stdin=subprocess.DEVNULL) as copying:
        wait_until(lambda: _has_open(copying.pid, goals), "part of the file is here")
        copying.terminate()
        assert copying.wait(30) == -signal.SIGTERM
    assert list(goals.iterdir()) == []
    corral("delete", "--force", "vast")


def _has_open(pid: int, directory: Path) -> bool:
    """Whether a process has a file open in the directory."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(descriptor.readlink()).startswith(f"{directory}/"):
                return True
    return False


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["bundle", "push", "/no/such"], 1, "neither a directory nor a file"),
        (["bundle", "push", "/", "--name", "not a name", "--select", "all"], 1, "is not NAME[:TAG]"),
        (["bundle", "rm", "x"], 2, "say which with --guest or --select"),
        (["bundle", "push", "/srv"], 2, "say which with --guest or --select"),
        (["bundle", "rm", "x", "--select", "all", "-g", "g1"], 2, "two ways to say where"),
        (["bundle", "list", "-g", "nowhere"], 1, "no guest nowhere"),
        (["bundle", "psuh", "/"], 2, "did you mean corral bundle push?"),
        (["cp", "a", "b"], 2, "CONTAINER:PATH"),
        (["cp", "a:b", "c:d"], 2, "CONTAINER:PATH"),
        (["cp", "-", "c:/d"], 2, "single files"),
        (["cp", "a", "box:"], 2, "has no path"),
    ],
)
def test_wrong_usage_is_said_in_a_line(corral: Typed, args: list[str], status: int, said: str) -> None:
    stderr = corral(*args, status=status)[1]
    assert said in stderr and "Traceback" not in stderr
