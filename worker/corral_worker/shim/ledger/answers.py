"""Every request is done once: what is running is joined, what was answered is answered again, until acknowledged."""

from __future__ import annotations

from collections.abc import Callable

from corral_worker.shim.base.light import Any
from corral_worker.shim.base.linux import is_exhausted, log
from corral_worker.shim.base.wire import Message
from corral_worker.shim.ledger.record import TEXT_CHARACTERS_MAX, Record

Key = tuple[str, str]


class RequestError(Exception):
    """A request that came to nothing, as it is answered: kind, text, the runtime's exit status, details."""

    def __init__(self, kind: str, text: str = "", *, exit_status: int | None = None, **details: Any) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text
        self.exit_status = exit_status
        self.details = details


def os_failure(error: OSError) -> RequestError:
    """What a record, a directory or a pipe that could not be made is to whoever asked."""
    return RequestError("resource_exhausted" if is_exhausted(error) else "storage_full", str(error))


class Answers:
    """Requests by (id, step): running, or answered and not yet acknowledged."""

    def __init__(self, record: Record, send: Callable[[Message], None]) -> None:
        self._record = record
        self._send = send
        self._running: dict[Key, bool] = {}  # key -> its intent is in the record
        self._responses: dict[Key, Message] = {}

    def is_new(self, key: Key) -> bool:
        """Take a request in; False for a repeat, which is answered again now or will be with the one running."""
        if key in self._responses:
            self._send(self._responses[key])
            return False
        if key in self._running:
            return False
        self._running[key] = False
        return True

    def write_intent(self, key: Key, intent: dict[str, Any]) -> None:
        """Before the effect. Raises RequestError ``storage_full`` or ``resource_exhausted``: there must be no effect then."""
        try:
            self._record.intent(*key, intent)
        except OSError as error:
            raise os_failure(error) from error
        self._running[key] = True

    def succeed(self, key: Key, ok: dict[str, Any]) -> None:
        """Answer a running request."""
        self._finish(key, {"ok": ok})

    def fail(self, key: Key, error: RequestError) -> None:
        """Answer a running request with an error."""
        content = {
            "kind": error.kind,
            "exit_status": error.exit_status,
            "text": error.text[:TEXT_CHARACTERS_MAX],
            "details": error.details,
        }
        self._finish(key, {"error": content})

    def acknowledge(self, key: Key) -> bool:
        """Forget a response; False when there was none."""
        known = self._responses.pop(key, None) is not None
        if not self._responses and not self._running:
            self._record.forget_all()
        return known

    def unacknowledged(self) -> list[Message]:
        """Every response that may still be asked for."""
        return list(self._responses.values())

    def running(self) -> list[dict[str, str]]:
        """What is queued or running."""
        return [{"id": request_id, "step": step} for request_id, step in self._running]

    def close(self) -> None:
        """Close the record."""
        self._record.close()

    def _finish(self, key: Key, result: dict[str, Any]) -> None:
        if self._running.pop(key):
            try:
                self._record.result(*key, result)
            except OSError as error:  # its space was taken with the intent, so the disk is broken: answer all the same
                log(f"result of {key}: {error}")
        self._responses[key] = {"t": "response", "id": key[0], "step": key[1], **result}
        self._send(self._responses[key])
