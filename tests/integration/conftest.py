"""For integration tests: a leak is told by the test that made it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from corral_testkit.remains import cgroups_of
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem


@pytest.fixture(autouse=True)
def nothing_is_left_of_its_containers(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the containers of a test were deleted there is no cgroup of any, no runtime state and no shim."""
    if "corral" not in request.fixturenames:
        yield
        return
    system: CorralSystem = request.getfixturevalue("_shared_corral")
    yield
    for name in system.names:
        wait_until(lambda name=name: left_of(system, name) == [], f"{name} is clean; there is {left_of(system, name)}", 5.0)  # type: ignore[misc]


def left_of(system: CorralSystem, name: str) -> list[str]:
    """What stands of containers, by path."""
    run_dir = system.run_dir(name)
    return [str(path) for path in (*cgroups_of(name), *(run_dir / "runc").iterdir(), *(run_dir / "s").glob("*.sock"))]
