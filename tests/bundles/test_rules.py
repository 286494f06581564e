"""What a bundle may hold, as laws: whatever passes stays below its root, and whatever is said twice is the same bundle."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral_schemas.bundle_rules import check_entries, check_symlink, chunks_of, decode_manifest, encode_manifest
from corral_schemas.bundles import BundleEntry, BundleManifest
from corral_schemas.errors import CorralError
from corral_schemas.limits import BUNDLE_CHUNK_BYTES, BUNDLE_ENTRIES_MAX
from corral_schemas.names import bundle_name, bundle_ref
from corral_schemas.ops import OPS

PARTS = st.sampled_from(["a", "b", "..", ".", "", "etc", "\0", "é", "x" * 256])
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
ROOT = PurePosixPath("/guest/root")


def passes(*entries: BundleEntry) -> bool:
    try:
        check_entries(list(entries))
    except CorralError as why:
        assert why.code == "bundle_invalid"
        return False
    return True


@given(PATHS)
@example("../x")
@example("/x")
@example("a/../../x")
def test_a_path_that_passes_lies_below_the_root(path: str) -> None:
    parents = [BundleEntry(path=str(one), type="directory") for one in reversed(PurePosixPath(path).parents) if str(one) not in (".", "/")]
    if passes(*parents, BundleEntry(path=path)):
        assert PurePosixPath(posixpath.normpath(ROOT / path)).is_relative_to(ROOT) and str(PurePosixPath(path)) == path


@given(st.sampled_from(["link", "a/link", "a/b/link"]), PATHS)
@example("link", "..")
@example("a/link", "../../x")
@example("link", "/../x")
def test_a_symlink_that_passes_never_climbs_above_the_root(path: str, target: str) -> None:
    try:
        check_symlink(path, target)
    except CorralError:
        return
    depth = 0 if target.startswith("/") else path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        assert depth >= 0


@pytest.mark.parametrize("target", ["../bin/tool", "/etc/motd", "motd", "./a/../b", "/proc/self/mounts"])
def test_links_of_real_systems_pass(target: str) -> None:
    check_symlink("etc/link", target)


@pytest.mark.parametrize(
    "entries",
    [
        [BundleEntry(path="a"), BundleEntry(path="a")],
        [BundleEntry(path="a", type="symlink", target="b"), BundleEntry(path="a/x")],
        [BundleEntry(path="a"), BundleEntry(path="a/x")],
        [BundleEntry(path="x"), BundleEntry(path=".", type="directory")],
        [BundleEntry(path=".")],
        [BundleEntry(path="a", type="hardlink", target="b"), BundleEntry(path="b")],
        [BundleEntry(path="a", type="directory", size=1)],
        [BundleEntry(path="a", type="symlink", target="")],
        [BundleEntry(path="a", size=BUNDLE_CHUNK_BYTES + 1, chunks=bytes(32))],
        [BundleEntry(path="a", xattrs={"user.x": bytes(70_000)})],
        [BundleEntry(path="a", xattrs={"security.selinux": b"x"})],
        [BundleEntry(path=f"f{number}", size=16 << 30, chunks=bytes(32 * (16 << 10))) for number in range(5)],
    ],
)
def test_what_does_not_hold_together_is_refused(entries: list[BundleEntry]) -> None:
    assert not passes(*entries)


def test_too_many_entries_are_refused() -> None:
    assert not passes(*[BundleEntry(path=f"f{number}") for number in range(BUNDLE_ENTRIES_MAX + 1)])


def test_a_manifest_comes_out_as_it_went_in_and_its_chunks_are_counted_once() -> None:
    full, rest = hashlib.sha256(bytes(BUNDLE_CHUNK_BYTES)).digest(), hashlib.sha256(b"x").digest()
    entries = [
        BundleEntry(path="a", size=2 * BUNDLE_CHUNK_BYTES + 1, chunks=full + full + rest),
        BundleEntry(path="b", size=1, chunks=rest),
    ]
    manifest = BundleManifest(entries=entries)
    assert decode_manifest(encode_manifest(manifest)) == manifest
    chunks = chunks_of(manifest)
    assert (chunks.digests, chunks.sizes) == ([full, rest], [BUNDLE_CHUNK_BYTES, 1])
    assert chunks.places == [[(0, 0), (0, BUNDLE_CHUNK_BYTES)], [(0, 2 * BUNDLE_CHUNK_BYTES), (1, 0)]]


def test_names_have_a_tag_and_refs_a_digest() -> None:
    digest = "sha256:" + "ab" * 32
    assert (bundle_name("web"), bundle_name("team/web:1.2")) == ("web:latest", "team/web:1.2")
    assert bundle_ref("web") == ("web:latest", "")
    assert bundle_ref(digest) == ("", digest) and bundle_ref(digest[:19]) == ("", digest[:19])
    assert bundle_ref(f"web:1@{digest}") == ("web:1", digest)
    for wrong in ("", "/web", "web:", "we b", "web:1:2", "../web", "web@sha256:12", f"@{digest}", "w" * 257, "web\n"):
        with pytest.raises(CorralError, match="bad_request"):
            bundle_ref(wrong)


def test_observers_may_only_look_at_bundles() -> None:
    ours = {name: op.role for name, op in OPS.items() if "bundle" in name or "file" in name or name == "upload"}
    assert {name for name, role in ours.items() if role == "observer"} == {"list_bundles", "inspect_bundle"}
    assert len(ours) == 10
