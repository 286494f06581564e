"""Every error Corral gives: one table of codes, one root class, one function to the wire and one back.

HRESULTs are those of the Windows host compute service for Linux guests; on the wire they are signed 32-bit integers.
"""

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta


class CorralError(Exception):
    """An error with a code from TABLE. Subclasses say what the caller can do next."""

    def __init__(self, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = details or {}

    @property
    def hresult(self) -> int:
        """Signed 32-bit HRESULT."""
        return hresult_of(self.code)

    @property
    def errno_name(self) -> str:
        return TABLE[self.code].errno_name if self.code in TABLE else "EIO"

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class NotFoundError(CorralError):
    """The thing named does not exist: name another."""


class StateError(CorralError):
    """The thing exists, in a state that does not allow this: look at its state, then decide."""


class InvalidError(CorralError):
    """The request itself is wrong: mend it; repeating it cannot help."""


class RetryError(CorralError):
    """Not now: the same request may succeed later."""


class DeadlineError(CorralError):
    """Not done in time; the result of the request can still be asked for."""


class UnauthorizedError(CorralError):
    """The key behind the connection does not allow this."""


class OutcomeUnknownError(CorralError):
    """Whether it was done cannot be known any more; it is not done again. A person or the orchestrator decides."""


class RuntimeFailedError(CorralError):
    """The runtime failed in a way that has no code of its own; its text is kept."""


class ResyncError(CorralError):
    """What was asked for is older than what is kept, or of another epoch: take a fresh snapshot and follow from there."""


class Row(NamedTuple):
    kind: type[CorralError]
    hresult: int
    errno_name: str
    when: str


_E_FAIL = 0x80004005
_STATE = 0x80370105

TABLE: dict[str, Row] = {
    "container_already_exists": Row(StateError, 0xC037010F, "EEXIST", "create with a taken id"),
    "container_not_found": Row(NotFoundError, 0xC037010E, "ENOENT", "any verb on an unknown container, or an instance that does not match"),
    "container_still_running": Row(StateError, _STATE, "EBUSY", "start of a running or paused container"),
    "container_not_stopped": Row(StateError, _STATE, "EBUSY", "delete of a running or paused container"),
    "container_invalid_state": Row(StateError, _STATE, "EBUSY", "exec in or pause of a paused container, resume of one not paused"),
    "container_not_running": Row(StateError, 0xC0370110, "ESRCH", "start, exec, pause, resume, update, kill of a stopped container"),
    "invalid_container_id": Row(InvalidError, 0x80070057, "EINVAL", "id outside the runtime's rule"),
    "process_already_exists": Row(StateError, 0x800700B7, "EEXIST", "exec id taken"),
    "process_not_found": Row(NotFoundError, 0x80070490, "ESRCH", "unknown or already gone process (kill, wait, resize)"),
    "wait_timeout": Row(DeadlineError, 0xC0370109, "ETIMEDOUT", "a wait that ended before the process did"),
    "deadline_exceeded": Row(DeadlineError, 0xC0370109, "ETIMEDOUT", "a command not done by its deadline"),
    "unsupported_op": Row(InvalidError, 0xC037010B, "ENOSYS", "op unknown here"),
    "unsupported_version": Row(InvalidError, 0xC037010C, "EPROTONOSUPPORT", "protocol version not spoken here"),
    "bad_request": Row(InvalidError, 0xC037010D, "EBADMSG", "cannot be decoded or fails validation"),
    "unauthorized": Row(UnauthorizedError, 0x80070005, "EACCES", "role does not allow the op"),
    "runtime_failed": Row(RuntimeFailedError, _E_FAIL, "EIO", "everything else the runtime says; its text is kept"),
    "command_not_found": Row(InvalidError, _E_FAIL, "ENOENT", "the program to run does not exist in the container"),
    "command_not_executable": Row(InvalidError, _E_FAIL, "EACCES", "the program to run may not be executed"),
    "bundle_invalid": Row(
        InvalidError, _E_FAIL, "EINVAL", "bundle without a readable config.json or rootfs, or with content that none may have"
    ),
    "bundle_not_found": Row(NotFoundError, _E_FAIL, "ENOENT", "no bundle of that name or digest in the guest"),
    "bundle_in_use": Row(StateError, _E_FAIL, "EBUSY", "removal of a bundle that is a container's root file system"),
    "bundle_incomplete": Row(RetryError, _E_FAIL, "EAGAIN", "commit of a bundle of which chunks are missing: open it again, send them"),
    "content_corrupt": Row(RetryError, _E_FAIL, "EBADMSG", "bytes that do not have the checksum stated for them; they were dropped"),
    "file_not_found": Row(NotFoundError, _E_FAIL, "ENOENT", "no such path in the container"),
    "file_changed": Row(RetryError, _E_FAIL, "ESTALE", "the file was replaced or written to while it was being read"),
    "runtime_unavailable": Row(RetryError, _E_FAIL, "ENOENT", "the runtime binary is missing or not executable"),
    "guest_unreachable": Row(RetryError, _E_FAIL, "EHOSTUNREACH", "guest unknown, down, or gone before it answered"),
    "guest_busy": Row(RetryError, _E_FAIL, "EAGAIN", "too many unanswered commands at the guest"),
    "guest_connected": Row(StateError, _E_FAIL, "EBUSY", "forgetting a guest that is connected"),
    "resource_exhausted": Row(RetryError, _E_FAIL, "EMFILE", "no descriptor, process or memory left in the guest for it"),
    "storage_full": Row(RetryError, _E_FAIL, "ENOSPC", "no space for the record a command needs"),
    "message_too_large": Row(InvalidError, _E_FAIL, "EMSGSIZE", "a frame or a message over its limit"),
    "not_a_tty": Row(InvalidError, _E_FAIL, "ENOTTY", "resize of a process without a terminal"),
    "stdin_closed": Row(StateError, _E_FAIL, "EPIPE", "stdin not asked for, closed, or its process gone"),
    "args_unknown": Row(RetryError, _E_FAIL, "EAGAIN", "shared arguments that the broker does not keep any more: send them whole"),
    "request_conflict": Row(InvalidError, _E_FAIL, "EINVAL", "a request id used before with other content"),
    "outcome_unknown": Row(OutcomeUnknownError, _E_FAIL, "EIO", "the record that would tell is gone; not executed again"),
    "cursor_too_old": Row(ResyncError, _E_FAIL, "ERANGE", "events or bytes asked for are no longer kept, or are of another epoch"),
    "name_ambiguous": Row(InvalidError, _E_FAIL, "EINVAL", "a name without a guest that several guests have"),
    "cancelled": Row(DeadlineError, _E_FAIL, "ECANCELED", "given up by `cancel` before it took effect"),
}
"""code → what class it is, its HRESULT (unsigned here), an errno-like name, and when it is given."""


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    """The `error` of a reply."""

    code: Annotated[str, Meta(description="One of the codes; decides what to do")]
    hresult: Annotated[int, Meta(description="Signed 32-bit HRESULT")]
    message: Annotated[str, Meta(description="For a person to read")]
    details: Annotated[dict[str, Any], Meta(description="Members as below, each of which may be absent")] = {}


def hresult_of(code: str) -> int:
    """Signed 32-bit HRESULT of a code (E_FAIL for one unknown here)."""
    unsigned = TABLE[code].hresult if code in TABLE else _E_FAIL
    return unsigned - (1 << 32) if unsigned & 1 << 31 else unsigned


def error(code: str, message: str, **details: Any) -> CorralError:
    """The CorralError (of the subclass TABLE names) for a code."""
    return TABLE[code].kind(code, message, details)


def to_wire(failure: CorralError) -> WireError:
    return WireError(code=failure.code, hresult=failure.hresult, message=failure.message, details=failure.details)


def from_wire(wire: WireError) -> CorralError:
    """A code unknown here (from a newer peer) becomes a RuntimeFailedError that keeps it."""
    kind = TABLE[wire.code].kind if wire.code in TABLE else RuntimeFailedError
    return kind(wire.code, wire.message, dict(wire.details))
