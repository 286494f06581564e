"""Another user of the guest: neither the shims' sockets nor the worker's files are to be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.runc
def test_no_other_local_user_reaches_a_socket_of_corral(corral: CorralSystem) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    sockets = [str(path) for path in Path(corral.directory).rglob("*") if path.is_socket()]
    assert sockets, "there are sockets to be tried"
    done = subprocess.run([sys.executable, "-c", TRY, *sockets], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == ""
