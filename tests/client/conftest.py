"""A fake broker with one guest, in a directory of its own; and no thread or descriptor may be left over."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from corral_testkit.fake_broker import FakeBroker
from corral_testkit.fake_guest import FakeGuest


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path leaves room for socket names."""
    with tempfile.TemporaryDirectory(prefix="corral-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def collector_of_pyzmq() -> None:
    """The first message that is sent without being copied makes a thread in pyzmq, with sockets, that stays as long as the process."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.bind("inproc://once")
        other.connect("inproc://once")
        one.send(bytes(zmq.COPY_THRESHOLD), copy=False)
        other.recv()


@pytest.fixture
def broker(short_dir: Path, collector_of_pyzmq: None) -> Iterator[FakeBroker]:
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    threads = threading.active_count()
    with FakeBroker(short_dir) as fake:
        yield fake
    assert threading.active_count() <= threads, "a thread was left over"
    assert len(os.listdir("/proc/self/fd")) <= descriptors, "a descriptor was left over"  # noqa: PTH208


@pytest.fixture
def guest(broker: FakeBroker) -> FakeGuest:
    return FakeGuest(broker, "g1")
