"""Strangers in cgroups once more, on a machine with cgroup v2 alone, as this one is then shown to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.runc, pytest.mark.timeout(300)]

WITH_V2_ALONE = 'umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
"""In a mount namespace, where the machine stays as it is for everybody else. Controllers that are used in v1 hierarchies are missing."""


@pytest.mark.guarantee(26)
def test_with_cgroup_v2_alone_the_others_live_through_the_same() -> None:
    tests = Path(__file__).with_name("test_strangers.py")
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        WITH_V2_ALONE,
        "sh",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        str(tests),
    ]
    done = subprocess.run([*argv, "-p", "no:cacheprovider"], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
