"""For all tests: a real Corral to test with, no test that needs containers where there can be none, and no silent skip in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from corral_testkit.bundles import make_bundle
from corral_testkit.skips import missing_for_containers, unexcused
from corral_testkit.system import CorralSystem, busybox_rootfs

# how long an example takes says more about the machine than about Corral; each test has its time-out
settings.register_profile("corral", deadline=None)
settings.load_profile("corral")

# who starts the tests in the background of a script has them ignore SIGINT, and so would every process that they start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

NEED_CONTAINERS = {"corral", "new_corral"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs containers is skipped on a machine that has not what it takes (in CI that is a failure, see below)."""
    if not (missing := missing_for_containers()):
        return
    for item in items:
        if item.get_closest_marker("runc") or NEED_CONTAINERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set, a skip that corral_testkit/skips.py does not excuse is a failure."""
    report = yield
    _fail_unexcused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for modules that skip themselves whole."""
    report = yield
    _fail_unexcused(report)
    return report


def _fail_unexcused(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if lines := unexcused([(report.nodeid, reason)]):
        report.outcome = "failed"
        report.longrepr = f"{lines[0]}\nCI is set, and corral_testkit/skips.py does not excuse this skip."


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A busybox root filesystem, not to be written to."""
    with busybox_rootfs() as directory:
        yield directory


@pytest.fixture
def bundle_dir(tmp_path: Path, rootfs: Path) -> Callable[..., Path]:
    """Makes OCI bundles: `bundle_dir("echo", "hi", tty=True)`; further arguments as for `corral_testkit.bundles.make_bundle`."""
    made: list[Path] = []

    def make(*argv: str, **settings: Any) -> Path:
        made.append(make_bundle(tmp_path / f"bundle-{len(made)}", list(argv), **{"rootfs": rootfs, **settings}))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def _shared_corral(rootfs: Path) -> Iterator[CorralSystem]:
    with CorralSystem(guests=2, rootfs=rootfs) as system:
        yield system


@pytest.fixture
def corral(_shared_corral: CorralSystem) -> Iterator[CorralSystem]:
    """A broker and two guests, shared by tests; after each everything runs again, and no container and no client is left."""
    yield _shared_corral
    _shared_corral.close_clients()
    _shared_corral.restore()


@pytest.fixture
def new_corral(rootfs: Path) -> Iterator[Callable[..., CorralSystem]]:
    """Starts systems of the test's own, for what would disturb others; arguments as for CorralSystem."""
    started: list[CorralSystem] = []

    def start(guests: int = 1, **options: Any) -> CorralSystem:
        started.append(CorralSystem(guests, rootfs=rootfs, **options).__enter__())
        return started[-1]

    yield start
    for system in reversed(started):
        system.__exit__(None, None, None)
