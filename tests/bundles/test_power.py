"""What a guest makes of bundles that were not yet known to be on its disk: after a worker's end, and after the power went."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles.conftest import push
from corral import Client, CorralError, Pushed, pack_bundle
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem
from corral_testkit.trees import described, make_tree
from corral_worker.bundle_store.incoming import MANIFEST
from corral_worker.bundle_store.unsynced import MARK

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]

LARGE_BYTES = 3 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = make_tree(tmp_path / "tree")
    (made / "large").write_bytes(random.Random(3).randbytes(LARGE_BYTES))
    return made


class Guest:
    """The first guest, with a bundle `tree` in it whose worker was killed before the bundle was on disk."""

    def __init__(self, system: CorralSystem, client: Client, tree: Path) -> None:
        self.name, self._system, self._client, self._tree = system.names[0], system, client, tree
        self.bundles = client.guest(self.name).bundles
        pushed = self.push()
        self.digest = pushed.digest
        self.place = system.state_dir(self.name) / "bundles" / "sha256" / self.digest.removeprefix("sha256:")
        self.worker = system.workers[self.name]
        self.worker.kill()
        assert (self.place / MARK).exists()

    def push(self) -> Pushed:
        with pack_bundle(self._tree) as bundle:
            return push(self._client, self.name, bundle, "tree:1")

    def start(self) -> None:
        self._system.restart_worker(self.name)

    def lose_power(self) -> None:
        """As far as bundles can tell: what is marked was written in another memory."""
        (self.place / MARK).write_text("of another boot")

    def wait_until_on_disk(self) -> None:
        wait_until(lambda: not (self.place / MARK).exists(), "the bundle is on disk")

    def is_there(self) -> bool:
        return self.digest in {one.digest for one in self.bundles.list().bundles}

    def is_as_it_was(self) -> bool:
        return described(Path(self.bundles.inspect("tree:1").rootfs_path)) == described(self._tree)


@pytest.fixture
def guest(system: CorralSystem, client: Client, tree: Path) -> Guest:
    return Guest(system, client, tree)


def test_a_worker_that_ends_before_a_bundle_is_on_disk_costs_nothing(guest: Guest) -> None:
    guest.start()
    assert guest.is_there() and guest.is_as_it_was()
    guest.wait_until_on_disk()
    assert f"{guest.place.name} was not" not in guest.worker.log


def test_a_bundle_that_was_not_on_disk_is_verified_after_a_power_cut_and_keeps_its_names(guest: Guest) -> None:
    guest.lose_power()
    guest.start()
    wait_until(guest.is_there, "the bundle is there")
    assert guest.is_as_it_was()
    assert f"{guest.place.name} was not yet known to be on disk" in guest.worker.log
    guest.wait_until_on_disk()


def zeroed(rootfs: Path) -> None:
    with (rootfs / "large").open("r+b") as file:
        file.seek(1 << 20)
        file.write(bytes(1 << 20))


def cut_short(rootfs: Path) -> None:
    os.truncate(rootfs / "large", 1_000)


def one_file_gone(rootfs: Path) -> None:
    (rootfs / "large").unlink()


def all_gone(rootfs: Path) -> None:
    shutil.rmtree(rootfs)


def owners_and_links_gone(rootfs: Path) -> None:
    os.chown(rootfs / "etc" / "shadow", 0, 0)
    (rootfs / "etc" / "link").unlink()
    (rootfs / "etc" / "link").symlink_to("shadow")
    (rootfs / "bin" / "tool").unlink()  # a hard link to other
    (rootfs / "large").unlink()


def manifest_zeroed(rootfs: Path) -> None:
    """Its tail, which a file system may have had no time to write; it still decodes."""
    manifest = rootfs.with_name(MANIFEST)
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"\0")


def manifest_cut_short(rootfs: Path) -> None:
    os.truncate(rootfs.with_name(MANIFEST), 10)


TEARS = [zeroed, cut_short, one_file_gone, all_gone, owners_and_links_gone, manifest_zeroed, manifest_cut_short]


@pytest.mark.parametrize("tear", TEARS)
def test_a_bundle_torn_by_a_power_cut_is_not_seen_and_a_push_mends_it(guest: Guest, tear: Callable[[Path], None]) -> None:
    tear(guest.place / "rootfs")
    guest.lose_power()
    guest.start()
    wait_until(lambda: f"{guest.place.name} was not on disk" in guest.worker.log, "the worker has looked at it")
    assert not guest.is_there()
    assert [one.digest for one in guest.bundles.list().incoming] == [guest.digest]
    with pytest.raises(CorralError, match="bundle_not_found"):
        guest.bundles.inspect("tree:1")
    sent = guest.push().sent_bytes
    assert guest.is_there() and guest.is_as_it_was()
    assert 0 < sent <= (guest.bundles.inspect("tree:1").bundle.bytes if tear is all_gone else LARGE_BYTES)


def test_a_bundle_removed_before_it_is_on_disk_leaves_nothing_and_comes_again(guest: Guest) -> None:
    guest.start()
    guest.bundles.remove("tree:1")
    guest.push()
    assert guest.is_as_it_was()
    guest.wait_until_on_disk()
