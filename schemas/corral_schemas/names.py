"""Ids: what may name a guest, a container or a process, and the instances that name each of them once and for ever."""

import re

from corral_schemas.errors import CorralError, error
from corral_schemas.limits import GUEST_CHARS_MAX, NAME_CHARS_MAX, REQUEST_ID_CHARS_MAX

ID_PATTERN = r"^[A-Za-z0-9_+.-]+\Z"
"""runc's rule for container ids (libcontainer/factory_linux.go, idRegex); Corral's for process ids and guests too."""
INIT = "init"
"""The process id of a container's first process."""

BUNDLE_NAME_CHARS_MAX = 256
_BUNDLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:[/][A-Za-z0-9][A-Za-z0-9_.-]*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_BUNDLE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BUNDLE_SHORT_DIGEST = re.compile(r"sha256:[0-9a-f]{12,64}")

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_INSTANCE = re.compile(rf"^[{_CROCKFORD}]{{26}}\Z")
_ID = re.compile(ID_PATTERN)


def new_instance(time_ns: int, randomness: bytes) -> str:
    """A time-ordered id: 48 bits of milliseconds, 80 bits of randomness (10 bytes), as 26 Crockford base-32 digits (the ULID layout)."""
    number = ((time_ns // 1_000_000) & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:10], "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def instance_time_ms(instance: str) -> int:
    """The milliseconds that stand in an instance."""
    number = 0
    for digit in instance:
        number = number << 5 | _CROCKFORD.index(digit)
    return number >> 80


def is_instance(text: str) -> bool:
    return _INSTANCE.match(text) is not None


def _legal(text: str, chars_max: int) -> bool:
    return len(text) <= chars_max and _ID.match(text) is not None and text not in (".", "..")


def check_container_id(name: str) -> None:
    """Raises invalid_container_id where runc would refuse the id (or it is longer than NAME_CHARS_MAX)."""
    if not _legal(name, NAME_CHARS_MAX):
        raise _refusal("container", name, NAME_CHARS_MAX)


def check_process_id(name: str) -> None:
    """Raises invalid_container_id: process ids follow the rule of container ids."""
    if not _legal(name, NAME_CHARS_MAX):
        raise _refusal("process", name, NAME_CHARS_MAX)


def check_guest_name(name: str) -> None:
    """Raises bad_request for a guest name that could not stand in a topic or a path."""
    if not _legal(name, GUEST_CHARS_MAX):
        raise error(
            "bad_request",
            f"guest name {name[:80]!r} is not 1-{GUEST_CHARS_MAX} characters of A-Z a-z 0-9 _ + . -",
            guest=name[:80],
        )


def check_request_id(request_id: str) -> None:
    """Raises bad_request for an empty, overlong or unprintable request id."""
    if not 1 <= len(request_id) <= REQUEST_ID_CHARS_MAX or not request_id.isascii() or not request_id.isprintable():
        raise error("bad_request", f"request id must be 1-{REQUEST_ID_CHARS_MAX} printable ASCII characters")


def bundle_name(text: str) -> str:
    """NAME:TAG, with the tag `latest` where none is given. Raises bad_request."""
    if len(text) > BUNDLE_NAME_CHARS_MAX or not _BUNDLE_NAME.fullmatch(text):
        shape = f"1-{BUNDLE_NAME_CHARS_MAX} characters of A-Z a-z 0-9 _ . - and /"
        raise error("bad_request", f"bundle name {text[:80]!r} is not NAME[:TAG], with {shape}", name=text[:80])
    return text if ":" in text else f"{text}:latest"


def bundle_ref(text: str) -> tuple[str, str]:
    """(name, digest or its beginning) of NAME[:TAG], sha256:… or NAME@sha256:…; what is not given is empty. Raises bad_request."""
    name, at, digest = text.partition("@")
    if not at and _BUNDLE_SHORT_DIGEST.fullmatch(text):
        return "", text
    if at and not _BUNDLE_DIGEST.fullmatch(digest):
        raise error("bad_request", f"{text[:160]!r}: after @ comes sha256: and 64 hexadecimal digits", name=text[:160])
    return bundle_name(name), digest


def _refusal(what: str, name: str, chars_max: int) -> CorralError:
    return error(
        "invalid_container_id",
        f"{what} id {name[:80]!r} is not 1-{chars_max} characters of A-Z a-z 0-9 _ + . -",
        id=name[:80],
    )
