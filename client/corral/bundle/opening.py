"""What somebody names to be pushed, found out by looking: a root file system, an OCI bundle, an OCI layout, or a tar of one."""

import bz2
import contextlib
import gzip
import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from corral.bundle.oci_layout import extracted, is_layout, is_layout_archive, unpacked
from corral.bundle.pack import Packed, pack
from corral.bundle.sources import DirectorySource, Source, TarSource, owned_by_root
from corral_schemas.bundle_rules import refusal
from corral_schemas.bundles import ImageConfig
from corral_schemas.errors import error
from corral_schemas.limits import BUNDLE_BYTES_MAX

_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_BLOCK = 1 << 20


@contextlib.contextmanager
def pack_bundle(what: str | Path, exclude: Sequence[str] = ()) -> Iterator[Packed]:
    """The bundle of a DIR, TAR, or LAYOUT[:TAG]; usable until the context ends. May take long: it is all read, for its digests.

    Raises bundle_invalid, file_not_found, runtime_unavailable (an OCI layout without umoci), OSError.
    """
    with contextlib.ExitStack() as stack:
        path, tag = _path_and_tag(str(what))
        if path.is_file():
            path = stack.enter_context(_uncompressed(path))
            if not is_layout_archive(path):
                yield pack(TarSource(path, exclude))
                return
            path = stack.enter_context(extracted(path))
        if is_layout(path):
            rootfs, image = stack.enter_context(unpacked(path, tag))
            tree: Source = DirectorySource(rootfs, exclude)
            yield pack(tree if os.geteuid() == 0 else owned_by_root(tree), image)
            return
        if (path / "config.json").is_file() and not (path / "bin").exists():
            rootfs, image = _oci_bundle(path)
            yield pack(DirectorySource(rootfs, exclude), image)
            return
        yield pack(DirectorySource(path, exclude))


def _path_and_tag(text: str) -> tuple[Path, str]:
    """An existing path, or the one before the last colon. Raises file_not_found."""
    before, colon, tag = text.rpartition(":")
    for path, found in [(Path(text), ""), *([(Path(before), tag)] if colon and before else [])]:
        if path.is_dir() or path.is_file():
            return path, found
    raise error("file_not_found", f"{text} is neither a directory nor a file here", path=text)


def default_name(what: str | Path) -> str:
    """What a bundle is called when nobody says: after the last part of its path, and a layout's tag."""
    path, tag = _path_and_tag(str(what))
    stem = path.absolute().name
    for suffix in (".gz", ".xz", ".bz2", ".tgz", ".tar"):
        stem = stem.removesuffix(suffix)
    cleaned = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_.-") else "-" for sign in stem).lstrip("_.-")
    return f"{cleaned or 'bundle'}:{tag or 'latest'}"


@contextlib.contextmanager
def _uncompressed(path: Path) -> Iterator[Path]:
    with path.open("rb") as file:
        head = file.read(6)
    opener = next((one for magic, one in _COMPRESSED.items() if head.startswith(magic)), None)
    if opener is None:
        if head.startswith(b"\x28\xb5\x2f\xfd"):
            raise refusal(str(path), "compressed with zstd: unpack it first (zstd -d)")
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="corral-tar-", suffix=".tar") as plain:
        try:
            with opener(path) as content:
                _copy(cast(BinaryIO, content), cast(BinaryIO, plain), path)
        except (OSError, EOFError, lzma.LZMAError) as why:
            raise refusal(str(path), f"it cannot be decompressed: {why}") from why
        plain.flush()
        yield Path(plain.name)


def _copy(content: BinaryIO, plain: BinaryIO, path: Path) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    size = 0
    while block := content.read(_BLOCK):
        size += len(block)
        if size > min(BUNDLE_BYTES_MAX, free // 2):  # a few kilobytes may decompress to more than any disk
            raise refusal(str(path), f"it decompresses to more than {size - len(block)} bytes")
        plain.write(block)


def _oci_bundle(path: Path) -> tuple[Path, ImageConfig]:
    """The root file system of an OCI bundle, and what its config.json says of its process. Its mounts and limits stay behind."""
    try:
        config = json.loads((path / "config.json").read_bytes())
        process, root = config.get("process") or {}, path / str(config["root"]["path"])
        user = process.get("user") or {}
        image = ImageConfig(
            env=[str(one) for one in process.get("env") or []],
            cmd=[str(one) for one in process.get("args") or []],
            user=f"{int(user.get('uid', 0))}:{int(user.get('gid', 0))}",
            cwd=str(process.get("cwd") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        raise refusal(str(path / "config.json"), f"it cannot be read: {why!r}") from why
    if not root.is_dir():
        raise refusal(str(root), "the root of the OCI bundle is no directory")
    return root, image
