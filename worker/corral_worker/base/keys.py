"""The worker's key, and the broker's public one."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import zmq

from corral_schemas.keyfiles import KeyFileError, KeyPair, check_key, check_secret_mode, parse, text_of
from corral_worker.base.durable import sync_directory


@dataclass(frozen=True, slots=True)
class Keys:
    """What a tcp connection to a broker is made with. All in Z85."""

    public: str
    secret: str
    server: str
    token: str = ""
    """One-time enrolment token, or empty."""


def load_keys(key_file: Path, server_key: str, token_file: Path | None) -> Keys:
    """Reads (or makes, 0600) the worker's key; `server_key` is a key or a file that holds one. Raises KeyFileError."""
    pair = _read_or_make(key_file)
    token = ""
    if token_file is not None:
        token = read_secret(token_file).strip() if token_file.exists() else ""  # removed once spent: the key is known by then
    return Keys(pair.public, pair.secret, _server_key(server_key), token)


def _read_or_make(path: Path) -> KeyPair:
    """A new key is on disk, whole, before anybody hears of it: a guest that loses its power right after it enrolled is still itself."""
    try:
        if not path.exists():
            _make(path)
    except OSError as why:
        raise KeyFileError(f"{path}: {why.strerror}") from why
    text = read_secret(path)
    try:
        pair = parse(KeyPair, text)
        check_key(pair.secret)
    except KeyFileError as why:
        raise KeyFileError(f"{path} is no key of a worker ({why}); remove it to have another made, which must be enrolled anew") from why
    return pair


def _make(path: Path) -> None:
    """At the end of links. Raises OSError."""
    path = Path(os.path.realpath(path))
    public, secret = zmq.curve_keypair()
    pair = KeyPair(public=public.decode(), secret=secret.decode())
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text_of(pair, "Secret key of a Corral worker: every program that has it acts as this guest."))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):  # another start was quicker: its key counts
        os.link(aside, path)
    aside.unlink()
    sync_directory(path.parent)


def _server_key(text: str) -> str:
    if len(text) == 40 and not Path(text).exists():
        return check_key(text)
    return parse(KeyPair, _read(Path(text))).public


def read_secret(path: Path) -> str:
    """A file that nobody but its owner may open. Raises KeyFileError."""
    try:
        with path.open() as file:
            check_secret_mode(str(path), os.fstat(file.fileno()).st_mode)
            return file.read()
    except (OSError, UnicodeDecodeError) as why:
        raise KeyFileError(f"{path}: {why}") from why


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as why:
        raise KeyFileError(f"{path}: {why}") from why
