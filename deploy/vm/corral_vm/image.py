"""The guest's disks: an image built from Debian packages, and (for the tests' guests) the wheel of this checkout on a disk of its own."""

from __future__ import annotations

import compileall
import importlib.metadata
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Literal

from corral_vm.bundle import lay_out
from corral_vm.cache import cached, digest
from corral_vm.shell import CACHE, REPOSITORY, BuildError, run
from corral_vm.wheels import dependency_wheels, own_wheel

GUEST = REPOSITORY / "deploy" / "guest"
DEPENDENCIES = ("click", "msgpack", "msgspec", "PyYAML", "pyzmq")
"""What a worker stands on, taken from the environment that runs this."""
GUEST_PYTHON = (3, 11)
STATE_BYTES = 512 << 20

Kind = Literal["test", "systemd"]
Build = Callable[[Path], None]
"""Fills a directory."""


@dataclass(frozen=True)
class Image:
    """Files that guests boot from; shared by them, never written to."""

    kernel: Path
    initrd: Path
    root: Path
    manifest: Path
    code: Path
    key: str


def ready_image(kind: Kind = "test") -> Image:
    """The image of this checkout; making it takes about half a minute where nothing is cached. Raises BuildError.

    `test`: a tiny init, and a code disk, so that a change of code needs no new root. `systemd`: a Debian with Corral installed from its
    bundle; its code disk is there and not looked at.
    """
    _check_python()
    base = cached(CACHE, f"base-{kind}", digest([_kernels(), _candidates(kind), *_files("build-base.sh", f"packages.{kind}")]), _base(kind))
    key, build = _test_image(base) if kind == "test" else _systemd_image(base)
    built = cached(CACHE, f"image-{kind}", key, build)
    code = cached(CACHE, "code", digest([own_wheel().parent.name, *_files("agent.py", "first_boot.py")]), _pack_code)
    return Image(
        kernel=built / "vmlinux",
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
    run(["mke2fs", "-q", "-t", "ext4", "-m", "0", str(path)])
    return path


def _check_python() -> None:
    if sys.version_info[:2] != GUEST_PYTHON:
        wanted, found = (".".join(map(str, version)) for version in (GUEST_PYTHON, sys.version_info[:2]))
        raise BuildError(f"the guest runs Python {wanted} and takes packages from here, where it is {found}: use a {wanted} environment")


def _kernels() -> str:
    return " ".join(sorted(path.name for path in Path("/boot").glob("vmlinuz-*-cloud-amd64")))


def _candidates(kind: Kind) -> str:
    """The versions that apt would install now."""
    names = [line for line in (GUEST / f"packages.{kind}").read_text().split("\n") if line and not line.startswith("#")]
    return run(["apt-cache", "policy", *names])


def _files(*names: str) -> list[Path]:
    return [GUEST / name for name in names]


def _base(kind: Kind) -> Build:
    def make(directory: Path) -> None:
        run([str(GUEST / "build-base.sh"), kind, str(directory)])

    return make


def _test_image(base: Path) -> tuple[str, Build]:
    """What it is made from, and how."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in DEPENDENCIES]

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as site:
            for name in DEPENDENCIES:
                _copy_distribution(name, Path(site))
            run([str(GUEST / "build-image.sh"), "test", str(directory), str(base), site])

    return digest([base.name, *versions, *_files("build-image.sh", "init")]), build


def _systemd_image(base: Path) -> tuple[str, Build]:
    scripts = [*_files("build-image.sh", "init", "first_boot.py", "agent.py"), *sorted((GUEST / "systemd").iterdir())]
    installer = REPOSITORY / "deploy" / "bundle" / "install.sh"

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            bundle = lay_out(Path(scratch) / "bundle", own_wheel())
            run([str(GUEST / "build-image.sh"), "systemd", str(directory), str(base), str(bundle)])

    return digest([base.name, own_wheel().parent.name, dependency_wheels().name, *scripts, installer]), build


def _copy_distribution(name: str, target: Path) -> None:
    found = importlib.metadata.distribution(name)
    for file in found.files or ():
        parts = file.parts
        if parts[0] == ".." or "__pycache__" in parts or "tests" in parts:
            continue
        to = target / file
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(found.locate_file(file)), to)


def _pack_code(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        with zipfile.ZipFile(own_wheel()) as wheel:
            wheel.extractall(staged)
        for file in _files("agent.py", "first_boot.py"):
            shutil.copy2(file, staged)
        compileall.compile_dir(
            str(staged), quiet=1, stripdir=name, prependdir="/code", invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
        run(["mkfs.erofs", "--quiet", "-T0", "--all-root", str(directory / "code.erofs"), name])
