"""Virtual environments: the one of the lock in .venv, and those with the lowest and the newest versions that pyproject.toml admits."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from corral_lock import locks, pip_settings
from corral_lock.locks import DEVELOP, INSTALLERS, REPOSITORY, RUN, LockError

OWN = REPOSITORY / ".venv"

Kind = Literal["lowest", "latest"]
RESOLUTIONS: dict[Kind, str] = {"lowest": "lowest-direct", "latest": "highest"}


def install() -> None:
    """Make .venv what the lock says, hashes checked, with Corral itself in it, editable. Raise LockError."""
    locks.check()
    uv = Uv()
    uv.run("pip", "sync", "--require-hashes", DEVELOP)
    # Corral itself has no hash; nothing is fetched to build it, for hatchling is in the lock.
    uv.run("pip", "install", "--no-deps", "--no-build-isolation", "--editable", ".")


def make_other(kind: Kind) -> Path:
    """Make .venv-KIND of today's index; return its path. Raise LockError. Versions without a wheel for this Python do not count."""
    environment = REPOSITORY / f".venv-{kind}"
    uv = Uv(environment)
    uv.run("venv", "--clear", f"--python={sys.executable}", str(environment))
    resolving = [f"--resolution={RESOLUTIONS[kind]}", "--only-binary=:all:", "--refresh"]
    uv.run("pip", "install", *resolving, "--requirements=pyproject.toml", "--all-extras")
    uv.run("pip", "install", "pip")
    uv.run("pip", "install", "--no-deps", "--no-build-isolation", "--editable", ".")
    return environment


def renew(only: Sequence[str] = ()) -> None:
    """Resolve the locks anew: every package at its newest version, or only those named (and what pyproject.toml asks for)."""
    uv, digest = Uv(), locks.wanted()
    upgrading = [f"--upgrade-package={name}" for name in only] or ["--upgrade"]
    shape = ["--universal", f"--python-version={locks.lowest_python()}", "--generate-hashes", "--no-annotate", "--no-header"]
    with tempfile.TemporaryDirectory() as scratch:
        everything, running, installers = (Path(scratch) / name for name in (DEVELOP, RUN, "installers.in"))
        installers.write_text("\n".join(INSTALLERS))
        if (REPOSITORY / DEVELOP).exists():
            everything.write_text((REPOSITORY / DEVELOP).read_text())
        uv.run("pip", "compile", *shape, *upgrading, "--all-extras", f"--output-file={everything}", "pyproject.toml", str(installers))
        uv.run("pip", "compile", *shape, f"--constraints={everything}", f"--output-file={running}", "pyproject.toml")
        purposes = {RUN: "What Corral runs on, with hashes.", DEVELOP: "What Corral runs on and is developed with, with hashes."}
        for made in (running, everything):
            (REPOSITORY / made.name).write_text(locks.header(purposes[made.name], digest) + made.read_text())


class Uv:
    """uv of the version that the lock names, in .venv; it works on that environment or another."""

    def __init__(self, environment: Path = OWN) -> None:
        self._program = OWN / "bin" / "uv"
        python = OWN / "bin" / "python"
        if not python.exists():
            _run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(OWN)], dict(os.environ))
        pip = bundled_pip(python)
        settings = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False).stdout
        self._variables = {**os.environ, **pip_settings.for_uv(settings, os.environ), "VIRTUAL_ENV": str(environment)}
        lock = REPOSITORY / DEVELOP
        block = locks.blocks(lock.read_text()).get("uv", "") if lock.exists() else ""
        if not self._is(locks.version(block)):
            self._bring(pip, block)

    def run(self, *words: str) -> None:
        """Run it with no questions asked. Raise LockError with what it said."""
        _run([str(self._program), "--quiet", "--no-progress", "--no-python-downloads", *words], self._variables)

    def _is(self, version: str) -> bool:
        if not self._program.exists():
            return False
        said = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=False).stdout.split()
        return not version or version in said

    def _bring(self, pip: list[str], block: str) -> None:
        """By pip, with the hashes of the lock; without a lock, the newest."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
            wanted.write(block or "uv\n")
            wanted.flush()
            install = ["install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--no-compile"]
            _run([*pip, *install, *(["--require-hashes"] if block else []), "--requirement", wanted.name], dict(os.environ))


def bundled_pip(python: Path) -> list[str]:
    """Run pip in an environment that has none: from the wheel that this Python's ensurepip keeps, which is not worth installing."""
    import ensurepip

    kept_elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")  # by Debian, say
    place = Path(kept_elsewhere) if kept_elsewhere else Path(ensurepip.__file__).parent / "_bundled"
    wheels = sorted(place.glob("pip-*.whl"))
    if wheels:
        return [str(python), f"{wheels[-1]}/pip"]
    _run([str(python), "-m", "ensurepip"], dict(os.environ))
    return [str(python), "-m", "pip"]


def _run(argv: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(argv, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode:
        words = [Path(argv[0]).name, *(word for word in argv[1:] if not word.startswith("-"))][:4]
        raise LockError(f"`{' '.join(words)}` failed (status {done.returncode}): see above")
