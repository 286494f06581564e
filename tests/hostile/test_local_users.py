"""Another user of the guest: neither the shims' sockets nor the worker's files are to be had."""

import os
import stat
import subprocess
import sys

import pytest

from corral.sync.container import Container
from corral_testkit.system import CorralSystem

TRY = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
reached = []
for path in sys.argv[1:]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.connect(path)
        reached.append(path)
    except (PermissionError, FileNotFoundError):
        continue
    except OSError as why:
        reached.append(f"{path}: {why}")
print("\\n".join(reached))
"""
THE_RUNTIMES_OWN = {"runc.log", "delete.log", "pid", "runc"}
"""What the runtime makes itself, in directories that are their owner's alone."""

pytestmark = pytest.mark.runc


def run_in_each(corral: CorralSystem) -> list[Container]:
    """A container in each guest, made by a zygote that has done with its rehearsal."""
    client = corral.client()
    return [client.guest(name).run("c", spec=corral.spec("sleep", "1000")) for name in corral.names]


def test_no_other_local_user_reaches_a_socket_of_corral(corral: CorralSystem) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    run_in_each(corral)
    sockets = [path for path in corral.directory.rglob("*") if path.is_socket()]
    assert any(path.parent.name == "s" for path in sockets), "the shim's socket is among those that are tried"
    done = subprocess.run([sys.executable, "-c", TRY, *map(str, sockets)], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == ""
    assert [str(path) for path in sockets if path.stat().st_mode & 0o177] == [], "0600 by themselves, whatever their directory"


def test_whatever_corral_makes_is_its_owners_alone(corral: CorralSystem) -> None:
    for container in run_in_each(corral):
        assert container.exec(["true"]).wait().code == 0
    open_to_others = [
        f"{stat.filemode(path.lstat().st_mode)} {path}"
        for name in corral.names
        for place in (corral.state_dir(name), corral.run_dir(name))
        for path in (place, *place.rglob("*"))
        if path.lstat().st_mode & 0o077 and not {path.name, path.parent.name} & THE_RUNTIMES_OWN
    ]
    assert open_to_others == []


def test_the_workers_own_umask_reaches_no_container(corral: CorralSystem) -> None:
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sleep", "1000"))
    process = container.exec(["sh", "-c", "umask"])
    assert process.stdout.read() == b"0022\n"
    assert process.wait().code == 0
