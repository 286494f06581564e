"""The worker as services of systemd: the units, and a drop-in with one guest's command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from corral_schemas.keyfiles import KeyPair, check_key, parse, text_of
from corral_schemas.names import check_guest_name

UNITS = ("corral-zygote@.service", "corral-worker@.service")
PROGRAM = "/opt/corral/bin/corral"
"""As the units name it; the one that installs takes its place."""
UNIT_DIR, CONFIG_DIR, STATE_DIR = "etc/systemd/system", "etc/corral", "var/lib/corral"
START_TIMEOUT_S = 300


class InstallError(Exception):
    """The service cannot be installed or started; the text says what to do."""


@dataclass(frozen=True)
class Installation:
    """What `corral worker install` was given."""

    guest: str
    brokers: tuple[str, ...]
    program: str
    server_key: str = ""
    """A key, or a file that holds one."""
    token: str = ""
    labels: tuple[str, ...] = ()
    insecure: bool = False
    more: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises InstallError, CorralError."""
        check_guest_name(self.guest)
        if bad := [label for label in self.labels if "=" not in label]:
            raise InstallError(f"label {bad[0]!r} is not K=V")
        if any(address.startswith("tcp://") for address in self.brokers) and not self.server_key and not self.insecure:
            raise InstallError("TCP needs the broker's public key: give --server-key (its file broker.public), or type --insecure")

    def command(self, key_file: Path | None, token_file: Path | None) -> list[str]:
        """The worker's command line."""
        argv = [self.program, "worker", "--guest", self.guest, "--zygote", "unit"]
        argv += [word for address in self.brokers for word in ("--broker", address)]
        argv += ["--server-key", str(key_file)] if key_file is not None else []
        argv += ["--token-file", str(token_file)] if token_file is not None else []
        argv += [word for label in self.labels for word in ("--label", label)]
        return [*argv, *(["--insecure"] if self.insecure else []), *self.more]


def install_units(wanted: Installation, root: Path = Path("/")) -> list[Path]:
    """Writes units, keys and drop-in below `root` and enables the units; → the files. Raises InstallError, KeyFileError, CorralError."""
    wanted.check()
    try:
        return list(_written(wanted, root))
    except OSError as why:
        raise InstallError(f"{why.filename}: {why.strerror}; installing needs root") from why


def _written(wanted: Installation, root: Path) -> Iterator[Path]:
    key_file = token_file = None
    if wanted.server_key:
        public = KeyPair(public=_public_key(wanted.server_key), name="broker")
        key_file = Path("/") / CONFIG_DIR / wanted.guest / "broker.public"
        yield _write(root, key_file, text_of(public, "Public key of the Corral broker."))
    if wanted.token:
        token_file = Path("/") / STATE_DIR / wanted.guest / "enrolment.token"
        yield _write(root, token_file, f"{wanted.token}\n", 0o600)
    for unit in UNITS:
        text = (files("corral_worker") / "systemd" / unit).read_text().replace(PROGRAM, wanted.program)
        yield _write(root, Path("/") / UNIT_DIR / unit, text, 0o644)
        instance = unit.replace("@", f"@{wanted.guest}")
        wants = root / UNIT_DIR / "multi-user.target.wants" / instance
        wants.parent.mkdir(parents=True, exist_ok=True)
        wants.unlink(missing_ok=True)
        wants.symlink_to(f"/{UNIT_DIR}/{unit}")  # what `systemctl enable` makes
    command = " ".join(_quoted(word) for word in wanted.command(key_file, token_file))
    drop_in = Path("/") / UNIT_DIR / f"corral-worker@{wanted.guest}.service.d" / "guest.conf"
    yield _write(root, drop_in, f"# Written by corral worker install.\n[Service]\nExecStart=\nExecStart={command}\n", 0o644)


def start_units(guest: str) -> None:
    """Starts them, or the worker anew; returns once the worker serves. Raises InstallError."""
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        raise InstallError("the units are written, but systemd does not run here: have `corral worker` started by what runs services")
    for words in (["daemon-reload"], ["start", f"corral-zygote@{guest}.service"], ["restart", f"corral-worker@{guest}.service"]):
        try:
            done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise InstallError(f"systemctl {' '.join(words)} did not end within {START_TIMEOUT_S} s") from None
        if done.returncode:
            raise InstallError(f"systemctl {' '.join(words)}: {done.stderr.strip()}\nsee: journalctl -u corral-worker@{guest}")


def _public_key(text: str) -> str:
    """A key, or what a file says. Raises KeyFileError, InstallError."""
    if len(text) == 40 and not Path(text).exists():
        return check_key(text)
    try:
        return parse(KeyPair, Path(text).read_text()).public
    except OSError as why:
        raise InstallError(f"--server-key {text}: {why.strerror}") from why


def _write(root: Path, path: Path, text: str, mode: int = 0o644) -> Path:
    """Whole or not at all; → the path as the installed system has it."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file():
        raise InstallError(f"{path} is no plain file, and is left alone; a masked unit: systemctl unmask {path.name}")
    target = Path(os.path.realpath(target))
    if not target.is_relative_to(os.path.realpath(root)):
        raise InstallError(f"{path} is a link that leads out of {root}")
    aside = target.with_name(f".{target.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    aside.chmod(mode)
    aside.replace(target)
    return path


def _quoted(word: str) -> str:
    """As ExecStart= wants it (systemd.service(5)): specifiers, variables and quotes taken literally."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return plain if word and not set(word) & set(" \t\n\"'\\;") else f'"{plain}"'
