"""A fake broker with one guest, in a directory of its own; and no thread or descriptor may be left over."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.fake_broker import FakeBroker
from corral_testkit.fake_guest import FakeGuest


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path leaves room for socket names."""
    with tempfile.TemporaryDirectory(prefix="corral-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def broker(short_dir: Path) -> Iterator[FakeBroker]:
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    threads = threading.active_count()
    with FakeBroker(short_dir) as fake:
        yield fake
    assert threading.active_count() <= threads, "a thread was left over"
    assert len(os.listdir("/proc/self/fd")) <= descriptors, "a descriptor was left over"  # noqa: PTH208


@pytest.fixture
def guest(broker: FakeBroker) -> FakeGuest:
    return FakeGuest(broker, "g1")
