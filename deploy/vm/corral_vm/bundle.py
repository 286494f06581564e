"""`make bundle`: one tar with everything that a VM needs of Corral, to be installed there without a network."""

from __future__ import annotations

import shutil
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from corral_vm.shell import REPOSITORY
from corral_vm.wheels import OWN_PYTHON, dependency_wheels, locked, own_wheel

FILES = ("LICENSE", "deploy/bundle/install.sh", "deploy/bundle/cloud-init.yaml")
PAGES = ("*.md", "docs/*.md", "schemas/*.md", "schemas/reference/*.md", "deploy/vm/README.md")
"""What is in the bundle's `doc`, each page at its place, so that links between them work there too."""


def make_bundle(directory: Path, python: str = OWN_PYTHON) -> Path:
    """For machines with that Python: writes corral-VERSION-PYTHON-PLATFORM.tar.gz; → its path. Raises BuildError."""
    wheel = own_wheel()
    version = wheel.name.split("-")[1]
    name = f"corral-{version}-py{python}-{sysconfig.get_platform()}"
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / f"{name}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        tree = lay_out(Path(scratch) / name, wheel, python)
        aside = made.with_name(f".{made.name}.new")
        with tarfile.open(aside, "w:gz", compresslevel=1) as tar:
            tar.add(tree, name, filter=_owned_by_root)
        aside.replace(made)
    return made


def lay_out(tree: Path, wheel: Path, python: str) -> Path:
    """The bundle as a directory. Raises BuildError."""
    shutil.copytree(dependency_wheels(python), tree / "wheels")
    shutil.copy2(wheel, tree / "wheels")
    (tree / "requirements.lock").write_text(locked(python, wheel))
    shutil.copytree(REPOSITORY / "deploy" / "systemd", tree / "systemd")
    for file in FILES:
        shutil.copy2(REPOSITORY / file, tree)
    for page in (page for pattern in PAGES for page in REPOSITORY.glob(pattern)):
        place = tree / "doc" / page.relative_to(REPOSITORY)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(page, place)
    (tree / "python").write_text(f"{python} {sysconfig.get_platform()}\n")
    return tree


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
