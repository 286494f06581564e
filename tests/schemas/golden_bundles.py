"""Full golden samples of bundles and files: every field is set to something else than its default."""

import hashlib
import zlib

from corral_schemas import bundles, files
from corral_schemas.base import Message
from corral_schemas.commands import RunArgs
from corral_schemas.containers import ContainerSpec
from schemas.golden_samples import CONTAINER, NOW

HELLO = b"hello\n"
CRC = zlib.crc32(HELLO)
DIGEST = "sha256:" + "5f" * 32
CONTENT = f"sha256:{hashlib.sha256(HELLO).hexdigest()}"
ENTRY = bundles.BundleEntry(
    path="etc/motd",
    type="hardlink",
    mode=0o4755,
    uid=1000,
    gid=100,
    mtime_ns=NOW,
    size=6,
    chunks=hashlib.sha256(HELLO).digest(),
    target="etc/issue",
    xattrs={"user.note": b"\x01"},
)
IMAGE = bundles.ImageConfig(env=["MODE=test"], entrypoint=["/bin/sh"], cmd=["-c", "date"], user="1000:1000", cwd="/srv")
BUNDLE = bundles.BundleInfo(digest=DIGEST, names=["web:1.2"], bytes=6, entries=2, created_ns=NOW, used_by=["web"])

RUN_OF_AN_IMAGE = RunArgs(
    container="web", spec=ContainerSpec(image="web:1.2", args=["-c", "date"], entrypoint=["/bin/sh"], env=["MODE=test"], overlay=True)
)

BUNDLES: list[Message] = [
    bundles.UploadArgs(content=CONTENT, offset=6, data=HELLO, crc=CRC),
    bundles.UploadReply(offset=12),
    bundles.OpenBundleArgs(digest=DIGEST, manifest_bytes=300),
    bundles.OpenBundleReply(state="incoming", missing=b"\x05", missing_bytes=4_096, bundle=BUNDLE),
    bundles.WriteBundleArgs(digest=DIGEST, pieces=[bundles.Piece(chunk=0, data=HELLO)]),
    bundles.CommitBundleArgs(digest=DIGEST, names=["web:1.2", "web:latest"]),
    bundles.BundleReply(bundle=BUNDLE),
    bundles.ListBundlesArgs(),
    bundles.ListBundlesReply(
        bundles=[BUNDLE], incoming=[bundles.IncomingBundle(digest=CONTENT, bytes=4_096, written_ns=NOW)], free_bytes=1 << 30
    ),
    bundles.InspectBundleArgs(bundle="web:1.2", entries_from=100, entries_max=50),
    bundles.InspectBundleReply(bundle=BUNDLE, image=IMAGE, rootfs_path="/var/lib/corral/vm-1/bundles/sha256/5f/rootfs", entries=[ENTRY]),
    bundles.RemoveBundleArgs(bundle="web:1.2"),
    bundles.CollectBundlesArgs(named=True, idle_ms=60_000),
    bundles.RemovedBundlesReply(removed=[DIGEST], untagged=["web:1.2"], freed_bytes=4_096),
    files.ReadFileArgs(container="web", instance=CONTAINER, path="/etc/motd", offset=6, max_bytes=4_096, version="7-9"),
    files.ReadFileReply(size=6, mode=0o644, uid=1000, gid=100, mtime_ns=NOW, version="7-9", data=HELLO, crc=CRC),
    files.WriteFileArgs(
        container="web", instance=CONTAINER, path="/etc/", name="motd", content=CONTENT, size=6, mode=0o600, uid=1000, gid=100, mtime_ns=NOW
    ),
    files.WriteFileReply(path="/etc/motd"),
]
