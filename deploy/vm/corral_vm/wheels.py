"""Wheels: of this checkout, and of everything it stands on, as the lock has it, for any Python that Corral runs on."""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker

from corral_lock.locks import DEVELOP, RUN, blocks
from corral_vm.cache import cached, digest
from corral_vm.shell import CACHE, REPOSITORY, run

PACKAGES = ("schemas/corral_schemas", "broker/corral_broker", "worker/corral_worker", "client/corral")
INSTALLER = "pip"
"""Goes into a bundle too: a Debian without python3-venv has none."""
OWN_PYTHON = ".".join(map(str, sys.version_info[:2]))
GLIBC_MINORS = range(36, 16, -1)
"""Wheels for any glibc up to Debian 12's will do."""


def own_wheel() -> Path:
    """The wheel of this checkout, made anew when a source has changed. Needs no network. Raises BuildError."""

    def make(directory: Path) -> None:
        run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)], directory=REPOSITORY)

    sources = [REPOSITORY / "pyproject.toml", *(file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*")))]
    parts = [part for file in sources if file.is_file() and "__pycache__" not in file.parts for part in (str(file), file)]
    [wheel] = cached(CACHE, "wheel", digest(parts), make).glob("*.whl")
    return wheel


def dependency_wheels(python: str = OWN_PYTHON) -> Path:
    """A directory of the wheels that Corral needs on that Python, pip among them; fetched once per lock. Raises BuildError."""
    wanted = locked(python)
    machine = platform.machine()
    systems = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    target = ["--python-version", python, "--implementation", "cp", *(word for one in systems for word in ("--platform", one))]

    def fetch(directory: Path) -> None:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(wanted)
            file.flush()
            argv += ["--only-binary=:all:", *target, "--dest", str(directory), "--require-hashes", "--requirement", file.name]
            run(argv, hint="the package index must be reachable for this")

    return cached(CACHE, f"wheels-py{python}", digest([wanted, *target]), fetch)


def locked(python: str, wheel: Path | None = None) -> str:
    """Requirements with hashes, as pip reads them: what the lock says of each package that this Python needs, and that wheel of Corral."""
    own = [f"corral=={wheel.name.split('-')[1]} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"] if wheel else []
    return "".join([*_locked(python), *own])


def _locked(python: str) -> Iterator[str]:
    """Leave no marker: pip would hold it to the Python that pip runs on."""
    there = {"python_version": python, "python_full_version": f"{python}.0"}
    running = blocks((REPOSITORY / RUN).read_text())
    for block in (*running.values(), blocks((REPOSITORY / DEVELOP).read_text())[INSTALLER]):
        first, _, hashes = block.partition("\n")
        pin, _, marker = first.rstrip("\\ ").partition(" ; ")
        if not marker or Marker(marker).evaluate(there):
            yield f"{pin} \\\n{hashes}"
