"""The store of bundles, asked for several things at once."""

from __future__ import annotations

import asyncio
import os
import zlib
from pathlib import Path

from corral_schemas.bundle_rules import encode_manifest
from corral_schemas.bundles import BundleEntry, BundleManifest, UploadArgs
from corral_worker.bundle_store.store import BundleStore
from corral_worker.bundle_store.unsynced import Memory
from corral_worker.bundle_store.uploads import digest_of


async def with_a_bundle(directory: Path) -> tuple[BundleStore, str]:
    """A store, and the digest of the whole bundle in it that nothing names."""
    manifest = encode_manifest(BundleManifest(entries=[BundleEntry(path="empty", uid=os.geteuid(), gid=os.getegid())]))
    (directory / "manifest").write_bytes(manifest)
    digest = f"sha256:{digest_of(directory / 'manifest')}"
    store = BundleStore(directory / "bundles", list)
    await store.load(Memory(directory / "memory", "boot"))
    await store.upload(UploadArgs(content=digest, data=manifest, crc=zlib.crc32(manifest)))
    await store.open(digest, len(manifest))
    await store.commit(digest, [])
    return store, digest


def test_a_bundle_that_is_removed_while_its_name_goes_to_the_disk_was_committed_before(tmp_path: Path) -> None:
    async def commit_and_remove() -> None:
        store, digest = await with_a_bundle(tmp_path)
        try:
            committed, (removed, untagged, _) = await asyncio.gather(store.commit(digest, ["a"]), store.collect(named=True, idle_s=60))
            assert committed.names == ["a:latest"]
            assert (removed, untagged) == ([digest], ["a:latest"])
            assert not store.has(digest)
        finally:
            store.close()

    asyncio.run(commit_and_remove())
