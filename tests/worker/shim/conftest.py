"""A guest with its zygote for each test module, and its shims for each test; nothing may be left of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from corral_testkit.shim_driver import Guest, ShimDriver, guest_in_temporary_directory


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with guest_in_temporary_directory() as guest:
        yield guest
        assert "Traceback" not in guest.log, guest.log


@pytest.fixture
def own_guest() -> Iterator[Guest]:
    """For tests that kill or restart the zygote."""
    with guest_in_temporary_directory() as guest:
        yield guest
        assert "Traceback" not in guest.log, guest.log


@pytest.fixture
def shim(guest: Guest) -> Iterator[ShimDriver]:
    """A shim whose container, if it has one, is killed and deleted after the test."""
    shim = guest.fork()
    yield shim
    alive = os.path.exists(f"/proc/{shim.pid}")  # noqa: PTH110
    if alive and (guest.run_dir / "s" / f"{shim.instance}.sock").exists():
        shim.connect()
        shim.verb("delete", "--force")
        shim.wait_gone()
