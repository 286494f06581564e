"""The guest's disks: an image built from Debian packages, and the code of this checkout on a disk of its own."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

from corral_vm.cache import cached, digest

REPOSITORY = Path(__file__).resolve().parents[3]
GUEST = REPOSITORY / "deploy" / "guest"
CACHE = REPOSITORY / "build" / "vm"
DEPENDENCIES = ("click", "msgpack", "msgspec", "pyzmq")
"""What a worker stands on, taken from the environment that runs this."""
PACKAGES = (REPOSITORY / "schemas" / "corral_schemas", REPOSITORY / "worker" / "corral_worker")
GUEST_PYTHON = (3, 11)
STATE_BYTES = 512 << 20


class BuildError(Exception):
    """An image cannot be made here; the text says what to do."""


@dataclass(frozen=True)
class Image:
    """Files that guests boot from; shared by them, never written to."""

    kernel: Path
    initrd: Path
    root: Path
    manifest: Path
    code: Path
    key: str


def ready_image() -> Image:
    """The image of this checkout; building it takes about half a minute where it is not cached. Raises BuildError."""
    built = cached(CACHE, "image", _image_key(), _build)
    code = cached(CACHE, "code", digest(_code_files()), _pack_code)
    return Image(
        kernel=built / "vmlinuz",
        initrd=built / "boot.img",
        root=built / "root.erofs",
        manifest=built / "manifest",
        code=code / "code.erofs",
        key=digest([built.name, code.name]),
    )


def make_state_disk(path: Path) -> Path:
    """A blank STATE: ext4 in a sparse file."""
    with path.open("wb") as file:
        file.truncate(STATE_BYTES)
    _run(["mke2fs", "-q", "-t", "ext4", "-m", "0", str(path)])
    return path


def _image_key() -> str:
    kernels = sorted(path.name for path in Path("/boot").glob("vmlinuz-*-cloud-amd64"))
    packages = [line for line in (GUEST / "packages").read_text().split("\n") if line and not line.startswith("#")]
    candidates = _run(["apt-cache", "policy", *packages])
    versions = [f"{name} {importlib.metadata.version(name)}" for name in DEPENDENCIES]
    return digest([*kernels, candidates, *versions, *(GUEST / name for name in ("build-image.sh", "init", "packages", "package-names"))])


def _build(directory: Path) -> None:
    if sys.version_info[:2] != GUEST_PYTHON:
        wanted, found = (".".join(map(str, version)) for version in (GUEST_PYTHON, sys.version_info[:2]))
        raise BuildError(
            f"the guest runs Python {wanted} and takes its packages from here, where it is {found}: use a {wanted} environment"
        )
    with tempfile.TemporaryDirectory() as site:
        for name in DEPENDENCIES:
            _copy_distribution(name, Path(site))
        _run([str(GUEST / "build-image.sh"), str(directory), site])


def _copy_distribution(name: str, target: Path) -> None:
    found = importlib.metadata.distribution(name)
    for file in found.files or ():
        parts = file.parts
        if parts[0] == ".." or "__pycache__" in parts or "tests" in parts:
            continue
        to = target / file
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(found.locate_file(file)), to)


def _code_files() -> list[str | Path]:
    """Names and contents."""
    files = [GUEST / "agent.py", *(path for package in PACKAGES for path in sorted(package.rglob("*.py")))]
    return [part for file in files for part in (str(file.relative_to(REPOSITORY)), file)]


def _pack_code(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        shutil.copy2(GUEST / "agent.py", staged)
        for package in PACKAGES:
            shutil.copytree(package, staged / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(
            str(staged), quiet=1, stripdir=name, prependdir="/code", invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
        _run(["mkfs.erofs", "--quiet", "-T0", "--all-root", str(directory / "code.erofs"), name])


def _run(argv: list[str]) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    except OSError as why:
        raise BuildError(f"{argv[0]} cannot be run ({why.strerror}): deploy/vm/setup.sh installs what is needed") from why
    if done.returncode:
        raise BuildError(f"{' '.join(argv)} failed with status {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout
