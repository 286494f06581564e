"""Guests in QEMU, shared by all tests here, and the times that faults took."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path += [str(Path(__file__).resolve().parents[2] / "deploy" / folder) for folder in ("vm", "lock")]

if TYPE_CHECKING:
    from corral_testkit.vms import VmFleet
    from corral_vm.image import Image

TIMEOUT_S = 240
TOOLS = ("qemu-system-x86_64", "mmdebstrap", "mkfs.erofs")
HERE = Path(__file__).parent
SUITES = (os.environ.get("SUITE") or "bookworm").split()
"""Debian releases that the guests of this run have, one after the other."""
IMAGES = pytest.StashKey["list[Image]"]()
"""What they were made from."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Emulated guests are slow, and no more of them at once than one test process has."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            if config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group("vm"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the guests said, and the next one gets others."""
    report = yield
    fleet = getattr(item, "funcargs", {}).get("vms")
    if report.failed and fleet is not None:
        report.sections.append(("guests", fleet.logs()))
        fleet.spoiled = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the guests ran, and the times that faults took."""
    if images := terminalreporter.config.stash.get(IMAGES, []):
        terminalreporter.section("what the guests ran")
        for image in images:
            terminalreporter.write_line(what_runs(image))
    passed = terminalreporter.getreports("passed")
    measured = [(name, value) for report in passed for name, value in report.user_properties if str(name).startswith("vm: ")]
    if measured:
        terminalreporter.section("guests in QEMU")
        for name, value in measured:
            terminalreporter.write_line(f"{value:8.2f} s  {str(name).removeprefix('vm: ')}")


def what_runs(image: Image) -> str:
    """Release and versions, as README's table has them."""
    manifest = dict(line.split("=", 1) for line in image.manifest.read_text().splitlines())
    kernel, parts = manifest["linux-image"], ("python3", "runc", "crun")
    return ", ".join([image.suite, f"Linux {kernel}", *(f"{part} {manifest[part]}" for part in parts), "cgroup v2 alone"])


@pytest.fixture
def took(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Notes how long something took: `took("guest_down after a pulled cable", 15.2)`."""
    return lambda what, seconds: record_property(f"vm: {what}", seconds)


@pytest.fixture(scope="session")
def qemu() -> None:
    """What real guests take is here."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"NO TEST ON REAL GUESTS: {', '.join(missing)} missing; deploy/vm/setup.sh installs what is needed")


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest, qemu: None) -> str:
    """The Debian release of the guests."""
    return str(request.param)


@pytest.fixture(scope="session")
def _fleet(suite: str, request: pytest.FixtureRequest) -> Iterator[VmFleet]:
    from corral_testkit.vms import VmFleet
    from corral_vm.image import ready_image
    from corral_vm.template import ready_template

    image = ready_image("test", suite)
    request.config.stash.setdefault(IMAGES, []).append(image)
    with VmFleet(ready_template(image)) as fleet:
        yield fleet


@pytest.fixture
def vms(_fleet: VmFleet) -> VmFleet:
    """A broker and three guests, all up and without containers."""
    _fleet.restore()
    return _fleet
