"""What `corral keys` does to a key directory: each change is one file written beside and renamed, or moved."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import msgspec
import zmq

from corral.cli.text.failures import Failed
from corral.placing import placed
from corral_schemas import keyfiles
from corral_schemas.errors import CorralError
from corral_schemas.keyfiles import AcceptedKey, EnrolmentToken, KeyDirectoryFile, KeyFileError, KeyPair, PendingKey
from corral_schemas.names import check_guest_name

F = TypeVar("F", bound=KeyDirectoryFile)
PREFIX_DIGITS_MIN = 6


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Raises Failed for what can go wrong with files and keys."""
    try:
        yield
    except KeyFileError as why:
        raise Failed(str(why)) from why
    except CorralError as why:
        raise Failed(why.message) from why
    except OSError as why:
        raise Failed(f"{why.filename}: {why.strerror}", hint="run it as the broker's user, on the broker's host") from why


def make_broker_key(directory: Path) -> KeyPair:
    """The broker's key pair and the directories for others. Raises KeyFileError when there is one already."""
    for name in ("", *keyfiles.DIRECTORIES):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    pair = make_key_file(directory / keyfiles.BROKER_SECRET, "broker")
    public = KeyPair(public=pair.public, name="broker")
    _write(directory / keyfiles.BROKER_PUBLIC, public, "Public key of a Corral broker: for its clients and workers, no secret.", 0o644)
    return pair


def check_broker_key(directory: Path) -> KeyPair:
    """The broker's public key. Raises KeyFileError where the directory is none of a broker."""
    if not (directory / keyfiles.BROKER_PUBLIC).exists():
        raise KeyFileError(f"{directory} holds no key of a broker; make one: corral keys new --broker --keys {directory}")
    return _read(directory / keyfiles.BROKER_PUBLIC, KeyPair)


def make_key_file(path: Path, name: str) -> KeyPair:
    """A new key pair in a file of its owner's (0600). Raises KeyFileError when something is there."""
    keyfiles.check_key_name(name)
    public, secret = zmq.curve_keypair()
    pair = KeyPair(public=public.decode(), secret=secret.decode(), name=name)
    with _secret_file(path) as file:
        file.write(keyfiles.text_of(pair, f"Secret key of Corral: every program that has this file acts as {name}."))
    return pair


@contextlib.contextmanager
def _secret_file(path: Path) -> Iterator[TextIO]:
    """A new file for its owner alone (0600), gone again where the block raises. Raises KeyFileError when something is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as why:
        raise KeyFileError(f"{path} is there already; it is left as it is") from why
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def accept(directory: Path, public: str, *, name: str, role: str, guest: str, expires_in_s: float | None = None) -> Path:
    """Writes the key among the accepted, and takes it off the pending and the revoked. Raises KeyFileError, CorralError."""
    expires = _after(expires_in_s) if expires_in_s is not None else ""
    return _accept(directory, AcceptedKey(name=name, public=public, role=role, guest=guest, added=_after(0), expires=expires))


def _accept(directory: Path, key: AcceptedKey) -> Path:
    check_broker_key(directory)
    keyfiles.check_key(key.public)
    if key.guest:
        check_guest_name(key.guest)
    keyfiles.parse(AcceptedKey, keyfiles.text_of(key))
    for path, other in _files(directory / keyfiles.ACCEPTED, AcceptedKey):
        if other.public == key.public:
            path.unlink()
    for path, other in _files(directory / keyfiles.REVOKED, AcceptedKey):
        if other.public == key.public:
            path.unlink()
    made = directory / keyfiles.ACCEPTED / keyfiles.accepted_file_name(key.name, key.public)
    _write(made, key)
    (directory / keyfiles.PENDING / f"{keyfiles.fingerprint(key.public)}.toml").unlink(missing_ok=True)
    return made


def told_of(key: AcceptedKey | PendingKey) -> str:
    """Name and fingerprint."""
    return f"{key.name} {keyfiles.fingerprint(key.public)}"


def reject(directory: Path, which: str, *, bar: bool) -> PendingKey:
    """Takes a key off the pending list. Raises KeyFileError."""
    pending = find_pending(directory, which)
    if pending is None:
        raise KeyFileError(f"no pending key {which}")
    if bar:
        claimed = AcceptedKey(name="rejected", public=pending.public, role="observer", added=_after(0))
        _write(directory / keyfiles.REVOKED / keyfiles.accepted_file_name("rejected", pending.public), claimed, "Rejected while pending.")
    (directory / keyfiles.PENDING / f"{keyfiles.fingerprint(pending.public)}.toml").unlink(missing_ok=True)
    return pending


def revoke(directory: Path, which: str) -> list[tuple[Path, AcceptedKey]]:
    """Moves every accepted key of this name or fingerprint to the revoked. Raises KeyFileError."""
    moved = []
    for path, key in _files(directory / keyfiles.ACCEPTED, AcceptedKey):
        if _is(which, key.name, key.public):
            goal = directory / keyfiles.REVOKED / path.name
            if path.is_symlink():  # moved, it might lead nowhere
                _write(goal, key)
                path.unlink()
            else:
                path.replace(goal)
            moved.append((goal, key))
    if not moved:
        raise KeyFileError(f"no accepted key {which}")
    return moved


def rotate(directory: Path, name: str, path: Path, keep_s: float) -> tuple[Path, AcceptedKey]:
    """A second key for the name, which may do what the newest one may; those it has expire. Raises KeyFileError."""
    present = [(at, key) for at, key in _files(directory / keyfiles.ACCEPTED, AcceptedKey) if key.name == name]
    if not present:
        raise KeyFileError(f"no accepted key {name}")
    newest = max((key for _, key in present), key=lambda key: key.added)
    pair = make_key_file(path, name)
    second = msgspec.structs.replace(newest, public=pair.public, added=_after(0), expires="")
    made = _accept(directory, second)
    until = _after(keep_s)
    for at, key in present:
        if not key.expires or keyfiles.parse_time(key.expires) > keyfiles.parse_time(until):
            _write(at, msgspec.structs.replace(key, expires=until))
    return made, second


def make_token(directory: Path, guest: str, ttl_s: float) -> str:
    """A one-time token for the guest's key. Raises KeyFileError, CorralError."""
    check_broker_key(directory)
    check_guest_name(guest)
    token = secrets.token_urlsafe(24)
    for path, old in _files(directory / keyfiles.TOKENS, EnrolmentToken):
        if keyfiles.parse_time(old.expires) <= time.time():
            path.unlink(missing_ok=True)
    file = EnrolmentToken(hash=keyfiles.token_hash(token), guest=guest, expires=_after(ttl_s))
    _write(directory / keyfiles.TOKENS / f"{secrets.token_hex(8)}.toml", file)
    return token


def make_token_file(directory: Path, guest: str, ttl_s: float, path: Path) -> None:
    """The same in a file for its owner alone, as a worker wants it. Raises KeyFileError, CorralError."""
    with _secret_file(path) as file:
        file.write(f"{make_token(directory, guest, ttl_s)}\n")


def records(directory: Path) -> list[dict[str, Any]]:
    """All keys, the pending first."""
    check_broker_key(directory)
    found: list[dict[str, Any]] = []
    known = {key.public for _, key in _files(directory / keyfiles.ACCEPTED, AcceptedKey)}
    for _, waiting in _files(directory / keyfiles.PENDING, PendingKey):
        if waiting.public in known:  # accepted while the broker was about to write it down
            continue
        found.append(_record("pending", waiting.public, waiting.name, f"({waiting.kind})", waiting.name if waiting.kind == "guest" else ""))
        found[-1].update(address=waiting.address, since=waiting.first_seen)
    for state, folder in (("accepted", keyfiles.ACCEPTED), ("revoked", keyfiles.REVOKED)):
        for _, key in _files(directory / folder, AcceptedKey):
            found.append(_record(state, key.public, key.name, key.role, key.guest))
            found[-1].update(since=key.added, expires=key.expires)
    return found


def find(directory: Path, which: str) -> list[dict[str, Any]]:
    """Raises KeyFileError when there is none."""
    found = [record for record in records(directory) if _is(which, record["name"], record["public"])]
    if not found:
        raise KeyFileError(f"no key {which}")
    return found


def find_pending(directory: Path, which: str) -> PendingKey | None:
    """The pending key with this fingerprint (six of its digits are enough) or public key."""
    check_broker_key(directory)
    found = [key for _, key in _files(directory / keyfiles.PENDING, PendingKey) if _is(which, "", key.public)]
    if len(found) > 1:
        raise KeyFileError(f"{which} is the beginning of {len(found)} pending keys")
    if not found and len(which) != 40:
        raise KeyFileError(f"no pending key {which}")
    return found[0] if found else None


def _is(which: str, name: str, public: str) -> bool:
    told = keyfiles.fingerprint(public)
    return which in (name, public) or (len(which) >= PREFIX_DIGITS_MIN and told.startswith(which.lower()))


def _record(state: str, public: str, name: str, role: str, guest: str) -> dict[str, Any]:
    told = keyfiles.fingerprint(public)
    about = {"state": state, "name": name, "role": role, "guest": guest, "fingerprint": told, "public": public}
    return {**about, "address": "", "since": "", "expires": ""}


def _files(directory: Path, kind: type[F]) -> list[tuple[Path, F]]:
    """Every file of a directory that can be read; one that cannot is no key."""
    found = []
    for path in sorted(directory.glob("*.toml")):
        with contextlib.suppress(KeyFileError, FileNotFoundError):  # the broker says in its log what is wrong with it
            found.append((path, _read(path, kind)))
    return found


def _read(path: Path, kind: type[F]) -> F:
    try:
        return keyfiles.parse(kind, path.read_text())
    except (UnicodeDecodeError, KeyFileError) as why:
        raise KeyFileError(f"{path}: {why}") from why


def _write(path: Path, file: KeyDirectoryFile, comment: str = "", mode: int = 0o600) -> None:
    with placed(path, mode) as opened:
        opened.write(keyfiles.text_of(file, comment).encode())


def _after(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
