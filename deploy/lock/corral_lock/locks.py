"""The two lock files: what they are for, whether they match pyproject.toml, and what they say about one package."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
RUN = "requirements.lock"
"""What Corral needs to run."""
DEVELOP = "requirements-dev.lock"
"""All of RUN at the same versions, every extra of pyproject.toml, and what installs them."""
LOCKS = (RUN, DEVELOP)
INSTALLERS = ("pip", "uv")
MADE_FOR = "# made for: "


class LockError(Exception):
    """A lock that is missing or out of date, or a step that failed; the message says what to do."""


def wanted(repository: Path = REPOSITORY) -> str:
    """Return the digest of all that the locks are resolved from."""
    pyproject = tomllib.loads((repository / "pyproject.toml").read_text())
    project = pyproject["project"]
    parts = [
        project["requires-python"],
        sorted(project["dependencies"]),
        {extra: sorted(names) for extra, names in project.get("optional-dependencies", {}).items()},
        sorted(pyproject["build-system"]["requires"]),
        INSTALLERS,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lowest_python(repository: Path = REPOSITORY) -> str:
    """Return the lowest Python that pyproject.toml admits, as in 3.11."""
    admitted = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["requires-python"]
    return str(admitted).removeprefix(">=")


def header(purpose: str, digest: str) -> str:
    return f"# {purpose} Made by `make lock`: do not edit.\n{MADE_FOR}{digest}\n"


def check(repository: Path = REPOSITORY) -> None:
    """Raise LockError unless both locks were made for this pyproject.toml. Reads files only."""
    digest = wanted(repository)
    for name in LOCKS:
        path = repository / name
        if not path.exists():
            raise LockError(f"{name} is missing: `make lock` makes it")
        if f"{MADE_FOR}{digest}\n" not in path.read_text():
            raise LockError(f"{name} does not match pyproject.toml: `make lock` renews it")


def blocks(text: str) -> dict[str, str]:
    """Return each package's part of a lock, by its name: the line with its version, and the lines with its hashes.

    A package that has a version for some Pythons and another for the rest has both in its part.
    """
    found: dict[str, str] = {}
    for match in re.finditer(r"^([a-z0-9-]+)==.*\n(?:[ \t]+.*\n)*", text, re.MULTILINE):
        found[match[1]] = found.get(match[1], "") + match[0]
    return found


def version(block: str) -> str:
    return re.split(r"[ ;\\]", block.partition("==")[2], maxsplit=1)[0]
