"""A real `corral up` for the tests of the command line: two guests, real runc, in directories of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.bundles import make_rootfs
from corral_testkit.cli import Up, end_up, processes_naming, start_up


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="cli-rootfs-"))
    yield make_rootfs(directory / "rootfs")
    shutil.rmtree(directory)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory with a path so short that sockets fit below it."""
    directory = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def up(rootfs: Path) -> Iterator[Up]:
    """Shared by all tests that do not end it; each uses names of its own."""
    directory = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    running = start_up(directory, rootfs)
    yield running
    status = end_up(running)
    left = processes_naming(str(directory))
    shutil.rmtree(directory)
    assert status == 0
    assert left == []
