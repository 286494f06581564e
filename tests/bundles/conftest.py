"""One Corral of two guests for the tests of bundles; after each test no bundle is left in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import Client, Packed, Pushed
from corral_testkit.system import CorralSystem


@pytest.fixture(scope="session")
def _shared(rootfs: Path) -> Iterator[CorralSystem]:
    with CorralSystem(guests=2, rootfs=rootfs) as system:
        yield system


@pytest.fixture
def system(_shared: CorralSystem) -> Iterator[CorralSystem]:
    yield _shared
    _shared.restore()
    with Client(_shared.address) as client:
        for name in _shared.names:
            client.guest(name).bundles.collect(named=True, idle_s=0)
            left = client.guest(name).bundles.list()
            assert not left.bundles and not left.incoming
            assert remains_of_pushes(_shared, name) == []


@pytest.fixture
def client(system: CorralSystem) -> Iterator[Client]:
    with Client(system.address) as opened:
        yield opened


def remains_of_pushes(system: CorralSystem, name: str) -> list[str]:
    """What is on a guest's disk of bundles and uploads, whole or in part."""
    directory = system.state_dir(name) / "bundles"
    return sorted(str(path) for part in ("sha256", "incoming", "uploads", "trash") for path in (directory / part).glob("*"))


def push(client: Client, guest: str, bundle: Packed, *names: str) -> Pushed:
    return client.guest(guest).bundles.push(bundle, names)
