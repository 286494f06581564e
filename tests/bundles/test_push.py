"""Pushes through a whole Corral: the same tree arrives, only what is missing travels, and nothing half done is ever seen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import random
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bundles.conftest import push, remains_of_pushes
from corral import Client, CorralError, PushProgress, pack_bundle
from corral.bundle.push import UNANSWERED_MAX, in_flight
from corral_schemas.bundle_rules import encode_manifest
from corral_schemas.bundles import (
    BundleEntry,
    BundleManifest,
    CommitBundleArgs,
    OpenBundleArgs,
    OpenBundleReply,
    Piece,
    UploadArgs,
    WriteBundleArgs,
)
from corral_testkit.system import CorralSystem
from corral_testkit.trees import HOSTILE_TARS, described, hostile_tars, make_tree

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


def test_the_tree_arrives_as_it_is_with_modes_owners_times_and_links(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with pack_bundle(tree) as bundle:
        push(client, system.names[0], bundle, "tree")
    there = client.guest(system.names[0]).bundles.inspect("tree", entries_max=100)
    assert described(Path(there.rootfs_path)) == described(tree)
    assert len(there.entries) == there.bundle.entries == len(described(tree))
    assert Path(there.rootfs_path, "sparse").stat().st_blocks * 512 < 2 << 20


def test_a_directory_and_its_tar_are_the_same_bundle(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)  # a tar has whole seconds, or floats of them
    for suffix in ("", ".gz", ".xz"):
        with tarfile.open(tmp_path / f"tree.tar{suffix}", f"w:{suffix[1:]}", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            archive.add(tree, ".")
    digests = set()
    for name in ("tree", "tree.tar", "tree.tar.gz", "tree.tar.xz"):
        with pack_bundle(tmp_path / name) as bundle:
            digests.add(bundle.digest)
    assert len(digests) == 1


def test_a_second_push_sends_next_to_nothing_and_a_changed_tree_only_what_changed(
    system: CorralSystem, client: Client, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "bin" / "large").write_bytes(random.Random(3).randbytes(5 << 20))
    with pack_bundle(tree) as bundle:
        first = push(client, system.names[0], bundle, "tree:1")
        second = push(client, system.names[0], bundle, "tree:1")
    assert first.sent_bytes > 5 << 20 and second.sent_bytes < first.sent_bytes / 100
    with (tree / "bin" / "large").open("r+b") as file:
        file.seek(3 << 20)
        file.write(b"changed")
    with pack_bundle(tree) as bundle:
        third = push(client, system.names[0], bundle, "tree:2")
    assert third.sent_bytes <= (1 << 20) + len(bundle.manifest)
    one, two = (Path(client.guest(system.names[0]).bundles.inspect(f"tree:{n}").rootfs_path) for n in (1, 2))
    assert described(two) == described(tree)
    assert (one / "bin" / "tool").samefile(two / "bin" / "tool"), "what did not change is one file for both"
    assert not (one / "bin" / "large").samefile(two / "bin" / "large")


def test_a_damaged_file_of_another_bundle_is_neither_shared_nor_copied(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with pack_bundle(tree) as bundle:
        push(client, system.names[0], bundle, "tree:1")
    rootfs = Path(client.guest(system.names[0]).bundles.inspect("tree:1").rootfs_path)
    with (rootfs / "bin" / "tool").open("r+b") as file:
        file.write(b"damaged")
    (tree / "etc" / "motd").write_text("changed\n")
    with pack_bundle(tree) as bundle:
        push(client, system.names[0], bundle, "tree:2")
    assert described(Path(client.guest(system.names[0]).bundles.inspect("tree:2").rootfs_path)) == described(tree)


def test_a_push_to_many_guests_tells_how_far_each_has_come(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    said: list[PushProgress] = []
    with pack_bundle(tree) as bundle:
        outcomes = list(client.push("all", bundle, ["tree"], on_progress=said.append))
    assert sorted(one.guest for one in outcomes if one.ok) == system.names
    for name in system.names:
        of_guest = [one for one in said if one.guest == name]
        assert [of_guest[0].state, of_guest[-1].state] == ["asking", "done"]
        sent = [one.sent_bytes for one in of_guest]
        assert sent == sorted(sent) and sent[-1] >= of_guest[-1].missing_bytes > 0


class CutAfter:
    """Does something once, when so many bytes have gone."""

    def __init__(self, sent_bytes: int) -> None:
        self._at, self.reached, self.go_on = sent_bytes, threading.Event(), threading.Event()

    def __call__(self, progress: PushProgress) -> None:
        if progress.sent_bytes >= self._at and not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(30)  # the client stands still meanwhile: what it had sent is on its way


@pytest.mark.parametrize("what", ["worker", "broker"])
def test_a_push_goes_on_where_it_was_after_a_kill(system: CorralSystem, client: Client, tmp_path: Path, what: str) -> None:
    tree = make_tree(tmp_path / "tree")
    for number in range(3):
        (tree / f"large-{number}").write_bytes(random.Random(number).randbytes(10 << 20))
    cut = CutAfter(12 << 20)
    results: list[object] = []
    with pack_bundle(tree) as bundle:

        def go() -> None:
            try:
                results.append(client.guest(system.names[0]).bundles.push(bundle, ["tree"], on_progress=cut))
            except CorralError as why:
                results.append(why)

        pushing = threading.Thread(target=go)
        pushing.start()
        assert cut.reached.wait(30)
        service = system.broker if what == "broker" else system.workers[system.names[0]]
        service.kill()
        cut.go_on.set()
        service.start()
        pushing.join(90)
    (pushed,) = results
    assert not isinstance(pushed, CorralError) and pushed is not None, pushed
    assert pushed.sent_bytes < 1.35 * bundle.total_bytes, "most of it was not sent again"  # type: ignore[attr-defined]
    rootfs = Path(client.guest(system.names[0]).bundles.inspect("tree").rootfs_path)
    assert described(rootfs) == described(tree)


def test_a_push_given_up_goes_on_later_and_is_seen_as_incoming_until_then(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "large").write_bytes(random.Random(5).randbytes(20 << 20))
    with pack_bundle(tree) as bundle:

        async def give_up_half_way() -> None:
            half = asyncio.Event()

            def on_progress(progress: PushProgress) -> None:
                if progress.sent_bytes > 10 << 20:
                    half.set()

            async with system.async_client() as other:
                pushing = asyncio.ensure_future(other.guest(system.names[0]).bundles.push(bundle, on_progress=on_progress))
                await half.wait()
                pushing.cancel()
                await asyncio.gather(pushing, return_exceptions=True)

        asyncio.run(give_up_half_way())
        bundles = client.guest(system.names[0]).bundles
        listed = bundles.list()
        assert [one.digest for one in listed.incoming] == [bundle.digest] and not listed.bundles
        with pytest.raises(CorralError, match="bundle_not_found"):
            bundles.inspect(bundle.digest)
        system.restart_worker(system.names[0])
        assert "was broken off" in system.workers[system.names[0]].log
        assert push(client, system.names[0], bundle, "tree").sent_bytes < 12 << 20
    assert described(Path(bundles.inspect("tree").rootfs_path)) == described(tree)


def test_a_corrupt_chunk_is_refused_and_a_commit_without_it_too(system: CorralSystem, client: Client) -> None:
    data = b"some content\n"
    entry = BundleEntry(path="file", size=len(data), chunks=hashlib.sha256(data).digest())
    manifest = encode_manifest(BundleManifest(entries=[entry]))
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    guest = system.names[0]
    upload_manifest(client, guest, digest, manifest)
    asked = OpenBundleArgs(digest=digest, manifest_bytes=len(manifest))
    with pytest.raises(CorralError, match="content_corrupt"):
        client.call(guest, "write_bundle", WriteBundleArgs(digest=digest, pieces=[Piece(chunk=0, data=b"other content")]))
    with pytest.raises(CorralError, match="bad_request"):
        client.call(guest, "write_bundle", WriteBundleArgs(digest=digest, pieces=[Piece(chunk=1, data=data)]))
    with pytest.raises(CorralError, match="bundle_incomplete"):
        client.call(guest, "commit_bundle", CommitBundleArgs(digest=digest))
    reply = client.call(guest, "open_bundle", asked)
    assert isinstance(reply, OpenBundleReply) and (reply.state, reply.missing, reply.missing_bytes) == ("incoming", b"\x01", len(data))
    client.call(guest, "write_bundle", WriteBundleArgs(digest=digest, pieces=[Piece(chunk=0, data=data)]))
    client.call(guest, "commit_bundle", CommitBundleArgs(digest=digest))
    assert [one.digest for one in client.guest(guest).bundles.list().bundles] == [digest]


def upload_manifest(client: Client, guest: str, digest: str, manifest: bytes) -> None:
    client.call(guest, "upload", UploadArgs(content=digest, data=manifest, crc=zlib.crc32(manifest)))
    client.call(guest, "open_bundle", OpenBundleArgs(digest=digest, manifest_bytes=len(manifest)))


HOSTILE_ENTRIES = {
    "..": BundleEntry(path="../evil"),
    "absolute": BundleEntry(path="/evil"),
    "dots inside": BundleEntry(path="a/../../evil"),
    "no parent": BundleEntry(path="a/b"),
    "escaping symlink": BundleEntry(path="a", type="symlink", target="../x"),
    "hard link out": BundleEntry(path="a", type="hardlink", target="/etc/passwd"),
    "overlay attribute": BundleEntry(path="a", xattrs={"trusted.overlay.redirect": b"/etc"}),
    "too large": BundleEntry(path="a", size=1 << 50, chunks=b""),
    "more chunks than bytes": BundleEntry(path="a", size=1, chunks=bytes(64)),
    "NUL": BundleEntry(path="a\0b"),
}


@pytest.mark.parametrize("what", HOSTILE_ENTRIES)
def test_a_manifest_that_breaks_a_rule_is_refused_by_the_guest_itself_and_nothing_is_left(
    system: CorralSystem, client: Client, what: str
) -> None:
    guest = system.names[0]
    manifest = msgspec.msgpack.encode(BundleManifest(entries=[HOSTILE_ENTRIES[what]]))
    with pytest.raises(CorralError, match="bundle_invalid"):
        upload_manifest(client, guest, f"sha256:{hashlib.sha256(manifest).hexdigest()}", manifest)
    assert remains_of_pushes(system, guest) == []


def test_what_is_no_manifest_is_refused_and_what_has_another_digest_too(system: CorralSystem, client: Client) -> None:
    guest = system.names[0]
    for manifest in (b"\xc1 nothing", b"\x81\xa7entries\x91\x82\xa4path\xa1a\xa4type\xa6device"):
        with pytest.raises(CorralError, match="bundle_invalid"):
            upload_manifest(client, guest, f"sha256:{hashlib.sha256(manifest).hexdigest()}", manifest)
    with pytest.raises(CorralError, match="content_corrupt"):
        upload_manifest(client, guest, "sha256:" + "0" * 64, b"\x80")
    assert remains_of_pushes(system, guest) == []


@pytest.mark.parametrize("what", HOSTILE_TARS)
def test_a_hostile_tar_is_refused_before_anything_is_sent(tmp_path: Path, what: str) -> None:
    tars = hostile_tars(tmp_path)
    with pytest.raises(CorralError) as refused, pack_bundle(tars[what]):
        pass
    assert refused.value.code == "bundle_invalid"


def test_a_directory_with_a_device_is_refused_with_what_to_do_and_taken_without_it(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "dev").mkdir()
    os.mknod(tree / "dev" / "null", 0o20666, os.makedev(1, 3))
    with pytest.raises(CorralError, match=r"--exclude 'dev/null'"), pack_bundle(tree):
        pass
    with pack_bundle(tree, exclude=["dev/*"]) as bundle:
        assert bundle.entries == len(described(tree)) - 1


@pytest.fixture
def small_disk() -> Iterator[CorralSystem]:
    """A guest that has 200 MiB for bundles."""
    system = CorralSystem(guests=1)
    disk = system.state_dir(system.names[0]) / "bundles"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], check=True)

    def unmount() -> None:
        subprocess.run(["umount", "--lazy", str(disk)], check=False, stderr=subprocess.DEVNULL)

    try:
        with system:
            yield system
            unmount()  # before the system removes its directories
    finally:
        unmount()


def test_a_bundle_larger_than_the_disk_is_refused_and_nothing_is_left(small_disk: CorralSystem, tmp_path: Path) -> None:
    guest, client = small_disk.names[0], small_disk.client()
    tree = make_tree(tmp_path / "tree")
    with (tree / "large").open("wb") as file:
        file.truncate(150 << 20)
    with pack_bundle(tree) as bundle, pytest.raises(CorralError, match="storage_full") as refused:
        push(client, guest, bundle)
    assert refused.value.details["needed"] > refused.value.details["free"] > 0
    assert remains_of_pushes(small_disk, guest) == []


def test_a_disk_that_fills_up_in_the_middle_of_a_push_leaves_nothing_of_it(small_disk: CorralSystem, tmp_path: Path) -> None:
    guest, client = small_disk.names[0], small_disk.client()
    tree = make_tree(tmp_path / "tree")
    (tree / "large").write_bytes(random.Random(5).randbytes(40 << 20))
    filler = small_disk.state_dir(guest) / "bundles" / "filler"

    def fill(progress: PushProgress) -> None:
        if progress.sent_bytes > 10 << 20 and not filler.exists():
            with filler.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))

    with pack_bundle(tree) as bundle, pytest.raises(CorralError, match="storage_full"):
        client.guest(guest).bundles.push(bundle, on_progress=fill)
    assert remains_of_pushes(small_disk, guest) == []
    filler.unlink()
    with pack_bundle(tree) as bundle:
        assert push(client, guest, bundle).total_bytes == bundle.total_bytes


def test_a_push_says_when_a_file_changes_under_it(system: CorralSystem, client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with pack_bundle(tree) as bundle:
        (tree / "etc" / "motd").write_text("other\n")
        with pytest.raises(CorralError, match="file_changed"):
            push(client, system.names[0], bundle)


def test_when_several_messages_fail_at_once_none_is_reported_as_a_failure_nobody_looked_at() -> None:
    unseen: list[dict[str, object]] = []

    async def fail() -> None:
        raise OSError(28, "No space left on device")

    async def send() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        with pytest.raises(OSError, match="No space"):
            await in_flight(iter([lambda: asyncio.ensure_future(fail())] * UNANSWERED_MAX))
        gc.collect()

    asyncio.run(send())
    assert unseen == []
