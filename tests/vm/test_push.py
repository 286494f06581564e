"""Bundles pushed to machines that lose their power: in the middle of a push, and right after its answer."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral import ContainerSpec, Packed, Pushed, PushProgress, pack_bundle
from corral_schemas.limits import BUNDLE_WRITE_BYTES_MAX
from corral_testkit.shim_driver import wait_until
from corral_testkit.vms import Stopwatch, VmFleet

DATA_BYTES = 32 << 20
VERIFIED_S = 60.0
IN_FLIGHT_MESSAGES = 4
"""Sent and not yet on disk when the power goes: those without an answer, and one that is counted only afterwards."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A busybox, and data that no disk can make up."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    (tmp_path / "bin").mkdir()
    shutil.copy2(busybox, tmp_path / "bin" / "busybox")
    (tmp_path / "bin" / "sha256sum").symlink_to("busybox")
    (tmp_path / "data").write_bytes(random.Random(11).randbytes(DATA_BYTES))
    return tmp_path


class PowerCut:
    """At half of a push: what came until then is brought to the disk, and the machine dies."""

    def __init__(self, vms: VmFleet, name: str) -> None:
        self._machine, self.over = vms.machines[name], threading.Event()

    def __call__(self, progress: PushProgress) -> None:
        if progress.sent_bytes >= DATA_BYTES // 2 and not self.over.is_set():
            self._machine.shell("sync")
            self._machine.cut_power()
            self.over.set()


def test_a_push_goes_on_after_a_power_cut_and_its_bundle_is_whole_or_not_there_after_another(
    vms: VmFleet, tree: Path, took: Callable[[str, float], None]
) -> None:
    cut = PowerCut(vms, "vm2")
    bundles = vms.client.guest("vm2").bundles
    with pack_bundle(tree) as bundle, ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(_push, vms, bundle, cut)
        assert cut.over.wait(120)
        vms.start("vm2")
        pushed = pushing.result(120)
        vms.machines["vm2"].cut_power()  # right after the answer
        assert pushed.sent_bytes <= bundle.total_bytes + len(bundle.manifest) + IN_FLIGHT_MESSAGES * BUNDLE_WRITE_BYTES_MAX
        vms.start("vm2")  # as a clone of the same template: its boot has the id of the one before
        watch = Stopwatch()
        whole = _is_whole(vms, bundle.digest)
        took(f"bundle verified after a power cut: {'whole' if whole else 'torn, out of sight'}", watch.s)
        if not whole:
            assert bundle.digest not in {one.digest for one in bundles.list().bundles}
        again = bundles.push(bundle, ["data"])
        assert (again.sent_bytes == 0) is whole
    checking = ContainerSpec(image="data", args=["/bin/sha256sum", "/data"])
    said = vms.client.guest("vm2").run("check", spec=checking).init.stdout.read()
    assert said.split() == [hashlib.sha256((tree / "data").read_bytes()).hexdigest().encode(), b"/data"]


def _push(vms: VmFleet, bundle: Packed, cut: PowerCut) -> Pushed:
    return vms.client.guest("vm2").bundles.push(bundle, ["data"], on_progress=cut)


def _is_whole(vms: VmFleet, digest: str) -> bool:
    """Once the guest has looked at what the power cut left."""
    console = vms.machines["vm2"]
    bare = digest.removeprefix("sha256:")
    said = {f"bundle {bare} was not yet known to be on disk": True, f"bundle {bare} was not on disk": False}
    said[f"a push of {bare} was broken off"] = False  # not even that it had become whole was on disk
    wait_until(lambda: any(text in console.console for text in said), "the guest has verified it", VERIFIED_S)
    return next(whole for text, whole in said.items() if text in console.console)
