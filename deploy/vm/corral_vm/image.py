"""The guest's disks: an image built from Debian packages, and (for the tests' guests) the wheel of this checkout on a disk of its own."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral_vm.bundle import lay_out
from corral_vm.cache import cached, digest
from corral_vm.shell import CACHE, REPOSITORY, run
from corral_vm.suites import Suite, chosen_suites, ready_suite
from corral_vm.wheels import dependency_wheels, own_wheel

GUEST = REPOSITORY / "deploy" / "guest"
DEPENDENCIES = ("click", "msgpack", "msgspec", "pyyaml", "pyzmq")
"""What a worker stands on."""
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
    suite: str
    python: str
    key: str


def ready_image(kind: Kind = "test", suite_name: str = "") -> Image:
    """The image of this checkout; making it takes about half a minute where nothing is cached. Raises BuildError.

    `test`: a tiny init, and a code disk, so that a change of code needs no new root. `systemd`: a Debian with Corral installed from its
    bundle; its code disk is there and not looked at. Without a suite's name it is the first that the environment names.
    """
    suite = ready_suite(suite_name or chosen_suites()[0])
    base = _ready_base(kind, suite)
    python, kernel = _python_of(base), suite.kernel()
    key, build = (_test_image if kind == "test" else _systemd_image)(base, python, kernel)
    built = cached(CACHE, f"image-{suite.name}-{kind}", key, build)
    sources = _files("agent.py", "first_boot.py")
    code = cached(CACHE, f"code-{suite.name}", digest([own_wheel().parent.name, base.name, *sources]), lambda made: _pack_code(made, base))
    return Image(
        kernel=built / "vmlinux",
        initrd=built / "boot.img",
        root=built / "root.erofs",
        manifest=built / "manifest",
        code=code / "code.erofs",
        suite=suite.name,
        python=python,
        key=digest([built.name, code.name]),
    )


def make_state_disk(path: Path) -> Path:
    """A blank STATE: ext4 in a sparse file."""
    with path.open("wb") as file:
        file.truncate(STATE_BYTES)
    run(["mke2fs", "-q", "-t", "ext4", "-m", "0", str(path)])
    return path


def _ready_base(kind: Kind, suite: Suite) -> Path:
    names = [line for line in (GUEST / f"packages.{kind}").read_text().split("\n") if line and not line.startswith("#")]
    script = GUEST / "build-base.sh"

    def build(directory: Path) -> None:
        run([str(script), kind, str(directory), suite.name, str(suite.sources)])

    return cached(CACHE, f"base-{suite.name}-{kind}", digest([suite.sources, suite.versions(names), script]), build)


def _python_of(base: Path) -> str:
    """Its version, as in 3.13."""
    return (base / "root" / "usr" / "bin" / "python3").readlink().name.removeprefix("python")


def _files(*names: str) -> list[Path]:
    return [GUEST / name for name in names]


def _test_image(base: Path, python: str, kernel: Path) -> tuple[str, Build]:
    """What it is made from, and how."""
    wheels = dependency_wheels(python)

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as site:
            for name in DEPENDENCIES:
                (wheel,) = wheels.glob(f"{name}-*.whl")
                _unpack(wheel, Path(site))
            run([str(GUEST / "build-image.sh"), "test", str(directory), str(base), site, str(kernel)])

    return digest([base.name, kernel.name, wheels.name, *_files("build-image.sh", "init")]), build


def _systemd_image(base: Path, python: str, kernel: Path) -> tuple[str, Build]:
    scripts = [*_files("build-image.sh", "init", "first_boot.py", "agent.py"), *sorted((GUEST / "systemd").iterdir())]
    installer = REPOSITORY / "deploy" / "bundle" / "install.sh"

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            bundle = lay_out(Path(scratch) / "bundle", own_wheel(), python)
            run([str(GUEST / "build-image.sh"), "systemd", str(directory), str(base), str(bundle), str(kernel)])

    made_from = [base.name, kernel.name, own_wheel().parent.name, dependency_wheels(python).name]
    return digest([*made_from, *scripts, installer]), build


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(target, [name for name in packed.namelist() if "tests" not in Path(name).parts])


def _pack_code(directory: Path, base: Path) -> None:
    """With the bytecode of the guest's own Python, which runs here on the guest's libraries."""
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        _unpack(own_wheel(), staged)
        for file in _files("agent.py", "first_boot.py"):
            shutil.copy2(file, staged)
        usr = base / "root" / "usr"
        (loader,) = (base / "root").glob("lib*/ld-linux-*.so.*")
        libraries = ":".join(str(path) for path in (base / "root" / "lib").glob("*-linux-gnu"))
        python = [str(loader), "--library-path", f"{libraries}:{usr}/lib", str(usr / "bin" / "python3")]
        compiling = ["-m", "compileall", "-q", "-s", name, "-p", "/code", "--invalidation-mode", "unchecked-hash", name]
        run(["env", f"PYTHONHOME={usr}", "PYTHONDONTWRITEBYTECODE=1", *python, *compiling])
        run(["mkfs.erofs", "--quiet", "-T0", "--all-root", str(directory / "code.erofs"), name])
