"""Keys as text: the files of a broker's key directory and of whoever dials it, read and written without I/O.

A broker's key directory holds `broker.secret` and `broker.public`, and below it one small TOML file per key or rule:
`accepted/NAME-FINGERPRINT.toml`, `revoked/` (the same files, once revoked), `pending/FINGERPRINT.toml`, `tokens/ID.toml` and
`policies/NAME.toml`. Two accepted files may share a name: that is a key being replaced by another without a gap.
"""

import hashlib
import json
import re
import shlex
import stat
import tomllib
from datetime import datetime
from typing import Any, TypeVar

import msgspec

BROKER_SECRET, BROKER_PUBLIC = "broker.secret", "broker.public"
ACCEPTED, REVOKED, PENDING, TOKENS, POLICIES = "accepted", "revoked", "pending", "tokens", "policies"
DIRECTORIES = (ACCEPTED, REVOKED, PENDING, TOKENS, POLICIES)
AUDIT_LOG = "audit.log"
"""Beside the key directory, unless it is said to be elsewhere; written by the broker, and by `corral keys`."""
PENDING_MAX = 256
"""Unknown keys kept on the pending list."""
KEY_FILE_BYTES_MAX = 64 << 10
OTHERS, OTHERS_WRITE = 0o077, 0o022
"""Bits of a mode: what others than the owner may do."""
ROLES = ("guest", "operator", "observer")
POLICY_PREFIX = "policy:"

_Z85_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")
F = TypeVar("F", bound="KeyDirectoryFile")


class KeyFileError(ValueError):
    """A file or a key that cannot be used; the message says why."""


class KeyDirectoryFile(msgspec.Struct, frozen=True, kw_only=True):
    """What all files have in common: TOML, unknown fields ignored."""


class KeyPair(KeyDirectoryFile, frozen=True, kw_only=True):
    """A key file: whoever has it is who it is for."""

    public: str
    secret: str = ""
    """Empty in a file that holds a public key alone."""
    name: str = ""


class AcceptedKey(KeyDirectoryFile, frozen=True, kw_only=True):
    """A key that may do what its role allows."""

    name: str
    public: str
    role: str
    """guest, operator, observer, or policy:NAME."""
    guest: str = ""
    """The one guest that a key with the role guest speaks for."""
    added: str = ""
    expires: str = ""
    """RFC 3339; empty: never."""
    rate_per_s: int = 0
    """Commands a second; 0: the broker's default. Likewise in_flight_max."""
    in_flight_max: int = 0


class PendingKey(KeyDirectoryFile, frozen=True, kw_only=True):
    """An unknown key that has asked for something; everything but the key and the address is its own claim."""

    public: str
    kind: str
    """guest or client."""
    name: str = ""
    address: str = ""
    first_seen: str = ""


class EnrolmentToken(KeyDirectoryFile, frozen=True, kw_only=True):
    """Lets one unknown key become a guest's, once."""

    hash: str
    """SHA-256 of the token, hex."""
    guest: str
    expires: str


class Rule(KeyDirectoryFile, frozen=True, kw_only=True):
    """Ops (by name, or `*`) on guests (by name, `*` and `?` as in file names)."""

    ops: list[str]
    guests: list[str]
    exec_members: list[str] = []
    """Members of the OCI process, or `*`, that an exec may state beyond program, environment, directory and user: `capabilities`, say."""


class Policy(KeyDirectoryFile, frozen=True, kw_only=True):
    """What a key with the role policy:NAME may do: whatever one of the rules allows."""

    allow: list[Rule]
    events: bool = False
    """May subscribe to the events and the output of all guests."""


def parse(kind: type[F], text: str) -> F:
    """Reads one file. Raises KeyFileError."""
    try:
        made = msgspec.convert(tomllib.loads(text), kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as why:
        raise KeyFileError(str(why)) from why
    public = getattr(made, "public", None)
    if public is not None:
        check_key(public)
    for field in ("added", "expires", "first_seen"):
        if getattr(made, field, ""):
            parse_time(getattr(made, field))
    if isinstance(made, AcceptedKey):
        _check_accepted(made)
    return made


def text_of(file: KeyDirectoryFile, comment: str = "") -> str:
    """One file as it is written; fields that hold their default are left out."""
    lines = [f"# {line}" for line in comment.splitlines()]
    defaults = dict(zip(file.__struct_fields__[-len(file.__struct_defaults__) :], file.__struct_defaults__, strict=False))
    for name in file.__struct_fields__:
        value = getattr(file, name)
        if name not in defaults or value != defaults[name]:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def check_key(text: str) -> str:
    """The key itself. Raises KeyFileError."""
    if _Z85_KEY.fullmatch(text):
        return text
    raise KeyFileError(f"{text[:80]!r} is no key: a key has 40 characters in Z85")


def check_secret_mode(path: str, mode: int) -> None:
    """Raises KeyFileError where a file that holds a secret is open to more than its owner. mode: as stat(2) gives it."""
    if stat.S_ISREG(mode) and mode & OTHERS:
        shown = f"{stat.S_IMODE(mode):04o}"
        raise KeyFileError(f"{path} holds a secret, and its mode {shown} opens it to more than its owner: chmod 600 {shlex.quote(path)}")


def check_directory_mode(path: str, mode: int) -> None:
    """Raises KeyFileError where others than its owner may put files into a directory of keys."""
    if mode & OTHERS_WRITE:
        shown = f"{stat.S_IMODE(mode):04o}"
        raise KeyFileError(f"{path} holds keys, and its mode {shown} lets others than its owner add some: chmod 700 {shlex.quote(path)}")


def check_key_name(name: str) -> str:
    """Raises KeyFileError unless it can be part of a file's name."""
    if not _NAME.fullmatch(name):
        raise KeyFileError(f"{name[:80]!r} is no name for a key: letters, digits, `.`, `_`, `-`, at most 64")
    return name


def fingerprint(public: str) -> str:
    """16 hex digits that stand for a public key."""
    return hashlib.sha256(public.encode()).hexdigest()[:16]


def accepted_file_name(name: str, public: str) -> str:
    return f"{name}-{fingerprint(public)[:8]}.toml"


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def parse_time(text: str) -> float:
    """RFC 3339 → seconds since 1970. Raises KeyFileError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as why:
        raise KeyFileError(f"{text!r} is no time such as 2026-01-31T12:00:00Z") from why
    if moment.tzinfo is None:
        raise KeyFileError(f"{text!r} lacks its time zone (Z)")
    return moment.timestamp()


def _check_accepted(key: AcceptedKey) -> None:
    check_key_name(key.name)
    if key.role.startswith(POLICY_PREFIX):
        check_key_name(key.role.removeprefix(POLICY_PREFIX))
    elif key.role not in ROLES:
        raise KeyFileError(f"role {key.role!r} is none of {', '.join(ROLES)}, policy:NAME")
    if (key.role == "guest") != bool(key.guest):
        raise KeyFileError("a key with the role guest names its guest, and no other does")


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value)
