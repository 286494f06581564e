"""Wheels: of this checkout, and of everything it stands on, at the versions that are installed here, for any Python that Corral runs on."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from corral_vm.cache import cached, digest
from corral_vm.shell import CACHE, REPOSITORY, run

PACKAGES = ("schemas/corral_schemas", "broker/corral_broker", "worker/corral_worker", "client/corral")
INSTALLER = "pip==25.3"
"""Goes into a bundle too: a Debian without python3-venv has none. One that runs on every Python from 3.11 on."""
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
    """A directory of the wheels that Corral needs on that Python, pip among them; fetched once per set of versions. Raises BuildError."""
    pins = [*(f"{name}=={importlib.metadata.version(name)}" for name in sorted(_closure("corral"))), INSTALLER]
    machine = platform.machine()
    systems = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    target = ["--python-version", python, "--implementation", "cp", *(word for one in systems for word in ("--platform", one))]

    def fetch(directory: Path) -> None:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
        run([*argv, "--only-binary=:all:", *target, "--dest", str(directory), *pins], hint="the package index must be reachable for this")

    return cached(CACHE, f"wheels-py{python}", digest([*pins, *target]), fetch)


def _closure(name: str) -> set[str]:
    """Everything a distribution needs, extras apart, by the metadata of what is installed."""
    found: set[str] = set()
    ahead = list(_needs(name))
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += _needs(one)
    return found


def _needs(name: str) -> Iterator[str]:
    for requirement in importlib.metadata.requires(name) or ():
        specifier, _, marker = requirement.partition(";")
        if not marker and (match := re.match(r"[A-Za-z0-9._-]+", specifier)):  # with a marker: an extra, or for other systems
            yield re.sub(r"[-_.]+", "-", match[0]).lower()
