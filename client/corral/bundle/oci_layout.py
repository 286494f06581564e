"""OCI image layouts: unpacked by umoci (and skopeo), which know layers and whiteouts; here only the image's configuration is read."""

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from corral_schemas.bundle_rules import refusal
from corral_schemas.bundles import ImageConfig
from corral_schemas.errors import error

REF_NAME = "org.opencontainers.image.ref.name"
INDEX = "application/vnd.oci.image.index.v1+json"
JSON_BYTES_MAX = 16 << 20
TOOL_TIMEOUT_S = 3_600.0
OURS = "corral"
"""Tag of a copy that skopeo makes."""


def is_layout(directory: Path) -> bool:
    return (directory / "oci-layout").is_file() and (directory / "index.json").is_file()


def is_layout_archive(archive: Path) -> bool:
    """Whether a tar (not compressed) is one of an OCI layout, as `skopeo copy … oci-archive:` and docker save write them."""
    try:
        with tarfile.open(archive, "r:") as tar:
            return any(member.name.removeprefix("./") == "oci-layout" for member in tar)
    except tarfile.TarError:
        return False


@contextlib.contextmanager
def unpacked(layout: Path, tag: str) -> Iterator[tuple[Path, ImageConfig]]:
    """(root file system in a directory of its own, configuration). tag: empty where the layout has one image only.

    Raises bundle_invalid for a layout that cannot be read or has no such tag, runtime_unavailable where umoci is missing.
    """
    index = _json(layout / "index.json")
    described = _chosen(index, tag, layout)
    name = dict(described.get("annotations") or {}).get(REF_NAME, "")
    with tempfile.TemporaryDirectory(prefix="corral-layout-") as temporary:
        place = Path(temporary)
        if described.get("mediaType") == INDEX or not name:  # for several platforms, or with no name that umoci could be told
            source = f"oci:{layout}:{name}" if name else f"oci:{layout}"
            _run("skopeo", "copy", "--quiet", source, f"oci:{place / 'one'}:{OURS}")
            layout, name = place / "one", OURS
            described = _chosen(_json(layout / "index.json"), name, layout)
        rootless = [] if os.geteuid() == 0 else ["--rootless"]
        _run("umoci", "unpack", *rootless, "--image", f"{layout}:{name}", str(place / "bundle"))
        yield place / "bundle" / "rootfs", _config(layout, described)


@contextlib.contextmanager
def extracted(archive: Path) -> Iterator[Path]:
    """A layout out of its tar: its plain files, and nothing else that may be in there."""
    with tempfile.TemporaryDirectory(prefix="corral-layout-") as temporary, tarfile.open(archive, "r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if (
                not member.isreg()
                or path.is_absolute()
                or ".." in path.parts
                or path.parts[:1] not in (("oci-layout",), ("index.json",), ("blobs",))
            ):
                continue
            target = Path(temporary) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with target.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
        yield Path(temporary)


def _chosen(index: Any, tag: str, layout: Path) -> dict[str, Any]:
    found = [one for one in index.get("manifests") or [] if isinstance(one, dict)]
    names = [str(dict(one.get("annotations") or {}).get(REF_NAME, "")) for one in found]
    matching = [one for one, name in zip(found, names, strict=True) if name == tag] if tag else found
    if len(matching) != 1:
        there = ", ".join(name for name in names if name) or "none has a name"
        why = f"it has no image {tag!r}" if tag else f"it has {len(found)} images: say which, as {layout}:TAG"
        raise refusal(str(layout), f"{why} (there are: {there})")
    return matching[0]


def _config(layout: Path, described: dict[str, Any]) -> ImageConfig:
    manifest = _json(_blob(layout, described))
    config = _json(_blob(layout, manifest.get("config") or {})).get("config") or {}
    try:
        return ImageConfig(
            env=[str(one) for one in config.get("Env") or []],
            entrypoint=[str(one) for one in config.get("Entrypoint") or []],
            cmd=[str(one) for one in config.get("Cmd") or []],
            user=str(config.get("User") or ""),
            cwd=str(config.get("WorkingDir") or ""),
        )
    except (TypeError, AttributeError) as why:
        raise refusal(str(layout), f"its configuration is not that of an image: {why}") from why


def _blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    algorithm, _, digest = str(descriptor.get("digest", "")).partition(":")
    if not algorithm.isalnum() or not digest.isalnum():
        raise refusal(str(layout), f"{descriptor.get('digest')!r} is no digest")
    return layout / "blobs" / algorithm / digest


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(JSON_BYTES_MAX))
    except (OSError, ValueError) as why:
        raise refusal(str(path), f"it cannot be read: {why}") from why
    if not isinstance(found, dict):
        raise refusal(str(path), "it holds no object")
    return found


def _run(tool: str, *args: str) -> None:
    if shutil.which(tool) is None:
        raise error("runtime_unavailable", f"{tool} is not installed here; it unpacks OCI images: apt-get install umoci skopeo", tool=tool)
    done = subprocess.run([tool, *args], capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise refusal(args[-1], f"{tool} {args[0]} failed: {said[-1] if said else f'status {done.returncode}'}")
