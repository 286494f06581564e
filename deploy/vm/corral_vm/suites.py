"""The Debian releases that guests are made of, and where their packages come from."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from corral_vm.cache import cached, digest
from corral_vm.shell import CACHE, REPOSITORY, BuildError, run

NAMES = ("bookworm", "trixie", "sid")
VARIABLE = "SUITE"
"""Names suites in the environment, as `make test-vm SUITE=trixie` does."""
LISTS_KEPT_S = 24 * 3600
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
BUILD_KERNEL = REPOSITORY / "deploy" / "guest" / "build-kernel.sh"


@dataclass(frozen=True)
class Suite:
    """One release: its sources and package lists, apart from those of this machine."""

    name: str
    sources: Path

    @property
    def apt_options(self) -> list[str]:
        """Make apt-get and apt-cache see this release alone, and nothing as installed."""
        lists = self.sources.parent
        return [
            *("-o", f"Dir::Etc::sourcelist={self.sources}", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::lists={lists}/lists", "-o", f"Dir::Cache={lists}/cache", "-o", "Dir::State::status=/dev/null"),
            *("-o", "APT::Install-Recommends=0", "-o", "APT::Sandbox::User=root"),
        ]

    def versions(self, packages: list[str]) -> str:
        """Return which ones apt would install now. Raise BuildError."""
        return run(["apt-cache", *self.apt_options, "policy", *packages])

    def kernel(self) -> Path:
        """Return a directory with the release's kernel: `vmlinux`, `version` and `modules`. Raise BuildError."""

        def build(directory: Path) -> None:
            run([str(BUILD_KERNEL), str(directory), *self.apt_options])

        return cached(CACHE, f"kernel-{self.name}", digest([BUILD_KERNEL, self.versions(["linux-image-cloud-amd64"])]), build)


def chosen_suites() -> list[str]:
    """Return those that the environment names; where one is wanted, the first. Raise BuildError."""
    names = os.environ.get(VARIABLE, "").split() or [NAMES[0]]
    if unknown := [name for name in names if name not in NAMES]:
        raise BuildError(f"{VARIABLE}={unknown[0]}: there are {', '.join(NAMES)}")
    return names


def ready_suite(name: str) -> Suite:
    """Return the release with package lists of today. Raise BuildError."""
    directory = CACHE / f"apt-{name}"
    for part in ("lists", "cache"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    suite, fetched = Suite(name, directory / f"{name}.sources"), directory / "fetched"
    text = sources_for(name)
    if not _is_fresh(fetched) or suite.sources.read_text() != text:
        suite.sources.write_text(text)
        run(["apt-get", *suite.apt_options, "--quiet", "update", "--error-on=any"], hint="the package mirror must be reachable for this")
        fetched.touch()
    return suite


def sources_for(name: str) -> str:
    """Return this machine's mirrors with that release instead of its own, in the deb822 form. Raise BuildError."""
    ours = _own_suite()
    for file in SOURCES:
        if file.exists():
            form = _deb822 if file.suffix == ".sources" else _one_line
            if text := form(file.read_text(), ours, name):
                return text
    raise BuildError(f"no mirror of {ours} is named in {' or '.join(map(str, SOURCES))}: guests are made from this machine's mirrors")


def _deb822(text: str, ours: str, name: str) -> str:
    stanzas = []
    for stanza in text.split("\n\n"):
        lines, named = [], False
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            field, _, value = line.partition(":")
            if field == "Suites":
                suites = _as_named(value.split(), ours, name)
                named = bool(suites)
                line = f"Suites: {' '.join(suites)}"
            lines.append(line)
        stanzas += ["\n".join(lines)] if named else []
    return "\n\n".join(stanzas) + "\n" if stanzas else ""


def _one_line(text: str, ours: str, name: str) -> str:
    """Write them as deb822, the one form that a file named .sources has."""
    stanzas = []
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(" ")
        options, _, rest = rest.rpartition("] ") if rest.lstrip().startswith("[") else ("", "", rest)
        words = rest.split()
        if kind != "deb" or len(words) < 3 or not (suites := _as_named(words[1:2], ours, name)):
            continue
        signed = [word.partition("=")[2] for word in options.strip(" [").split() if word.startswith("signed-by=")]
        fields = [
            ("Types", "deb"),
            ("URIs", words[0]),
            ("Suites", suites[0]),
            ("Components", "main"),
            *(("Signed-By", one) for one in signed),
        ]
        stanzas.append("\n".join(f"{field}: {value}" for field, value in fields))
    return "\n\n".join(stanzas) + "\n" if stanzas else ""


def _as_named(suites: list[str], ours: str, name: str) -> list[str]:
    """Leave out updates and security for sid, which has neither."""
    found = [name + suite.removeprefix(ours) for suite in suites if suite == ours or suite.startswith(f"{ours}-")]
    return [suite for suite in found if name != "sid" or suite == name]


def _own_suite() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise BuildError("/etc/os-release names no release: guests are made on Debian")


def _is_fresh(file: Path) -> bool:
    return file.exists() and time.time() - file.stat().st_mtime < LISTS_KEPT_S
