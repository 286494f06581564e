"""A state directory on a disk that is full for a while: typed refusals, no byte and no exit missing, nothing left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral import ContainerSpec, CorralError, Event, Gap, Mount
from corral.sync.container import Process
from corral_testkit.cli import processes_naming
from corral_testkit.shim_driver import wait_until
from corral_testkit.small_disk import SmallDisk
from corral_testkit.system import CorralSystem
from integration.conftest import left_of

pytestmark = pytest.mark.runc


def shims_of(guest: str) -> list[str]:
    """Titles of the shims of a guest, with or without a socket."""
    return [line for _, line in processes_naming(f"corral-shim {guest} ")]


@pytest.fixture
def small(rootfs: Path) -> Iterator[tuple[CorralSystem, SmallDisk]]:
    """A guest whose state directory is a disk of 64 MiB."""
    with tempfile.TemporaryDirectory(prefix="corral-disk-", dir="/tmp") as top:
        system = CorralSystem(rootfs=rootfs, states=Path(top))
        with SmallDisk(system.state_dir(system.names[0]), 64 << 20) as disk, system:
            yield system, disk


@pytest.mark.guarantee(22)
@pytest.mark.parametrize("spare_bytes", [0, 16 << 10, 256 << 10])
def test_a_run_refused_on_a_full_disk_leaves_nothing_and_the_guest_goes_on(small: tuple[CorralSystem, SmallDisk], spare_bytes: int) -> None:
    system, disk = small
    (name,) = system.names
    client = system.client()
    guest = client.guest(name)
    disk.fill(spare_bytes)
    refused = 0
    for number in range(20):
        try:
            guest.run(f"c{number}", spec=system.spec("true"), timeout_s=5.0).delete(force=True)
        except CorralError as why:
            assert why.code in ("storage_full", "deadline_exceeded"), why
            refused += 1
    assert refused
    disk.free()
    wait_until(lambda: not [*left_of(system, name), *shims_of(name)], "nothing is left, neither on disk nor a shim", 5.0)

    def runs() -> bool:
        try:
            return guest.run(spec=system.spec("true"), auto_delete=True).wait().code == 0
        except CorralError as why:
            assert why.code == "storage_full", why
            return False

    wait_until(runs, "the guest takes commands again", 10.0)


@pytest.mark.guarantee(22)
@pytest.mark.parametrize("spare_bytes", [0, 4 << 10, 12 << 10, 24 << 10, 48 << 10])
def test_an_exec_on_a_full_disk_runs_or_is_refused_as_storage_full(small: tuple[CorralSystem, SmallDisk], spare_bytes: int) -> None:
    system, disk = small
    guest = system.client().guest(system.names[0])
    marks = system.directory / "marks"
    container = guest.run(
        spec=ContainerSpec(rootfs=str(system.rootfs), args=["sleep", "1000"], mounts=[Mount(source=str(marks.parent), destination="/m")])
    )
    disk.fill(spare_bytes)
    outcomes = [_code_of(lambda number=number: container.exec(["sh", "-c", f"echo {number} >> /m/marks"])) for number in range(10)]  # type: ignore[misc]
    disk.free()
    assert "storage_full" in outcomes
    assert set(outcomes) <= {"", "storage_full"}
    ran = [int(line) for line in marks.read_text().split()] if marks.exists() else []
    assert ran == [number for number, code in enumerate(outcomes) if not code], "exactly what was not refused has run"


def _code_of(work: Callable[[], Process]) -> str:
    try:
        work().wait()
    except CorralError as why:
        return why.code
    return ""


@pytest.mark.guarantee(22)
def test_on_a_full_disk_exits_are_reported_and_output_that_does_not_fit_is_a_gap_and_an_event(
    small: tuple[CorralSystem, SmallDisk],
) -> None:
    system, _ = small
    (name,) = system.names
    client = system.client(retry_unreachable=True)
    guest = client.guest(name)
    size = 100 << 20
    with client.events(guests=[name], broker_events=False) as events:
        container = guest.run("big", spec=system.spec("sh", "-c", f"head -c {size} /dev/zero; exit 7"))
        end = container.wait(60)
        assert (end.type, end.code, end.streams["stdout"].total) == ("exited", 7, size)
        pieces = list(container.init.output(stderr=None))
        gaps = [piece for piece in pieces if isinstance(piece, Gap)]
        assert gaps and sum(piece.end - piece.start if isinstance(piece, Gap) else len(piece.data) for piece in pieces) == size
        container.delete()
        kinds: list[str] = []
        for item in events:
            assert isinstance(item, Event), item
            kinds.append(item.kind)
            if item.kind == "deleted":
                break
    assert {"stdio_gap", "exit"} <= set(kinds)
    system.restart_worker(name)
    assert container.wait().code == 7
