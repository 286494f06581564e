"""How a failure is said: one line on stderr, a hint below it where there is one, and an exit status.

Light: neither zmq nor msgspec is imported here; CorralError is recognised by its fields.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from corral.plain_text import one_line

FAILED = 1
USAGE = 2
CORRALS_OWN = 125
"""Status of run, exec and attach for anything that is not the process's own code."""
INTERRUPTED = 130
OUTPUT_CLOSED = 141
NO_BROKER = 255


class Failed(click.ClickException):
    """Ends the command with `status` after saying `message` and, below it, `hint`."""

    def __init__(self, message: str, *, status: int = FAILED, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click reads it from the instance
        self.hint = hint

    def show(self, file: Any = None) -> None:
        say(self.message, hint=self.hint)


class NoBroker(Failed):
    """No broker answered; `message` says what was tried."""

    def __init__(self, message: str, *, status: int = NO_BROKER) -> None:
        super().__init__(message, status=status, hint="start one here with `corral up`, or name one with --broker or CORRAL_BROKER")


def say(message: str, *, hint: str = "") -> None:
    """Writes `corral: MESSAGE` on stderr. Where that is closed, or its terminal gone, there is nobody to tell."""
    with contextlib.suppress(OSError):
        click.echo(f"corral: {one_line(message)}", err=True)
        if hint:
            click.echo(f"  hint: {one_line(hint)}", err=True)


def is_corral_error(failure: BaseException) -> bool:
    """Whether it is a CorralError, asked without importing what defines it."""
    errors = sys.modules.get("corral_schemas.errors")
    return errors is not None and isinstance(failure, errors.CorralError)


def hint_of(failure: Any) -> str:
    """What the details of a CorralError suggest to do next."""
    nearest = failure.details.get("nearest")
    if nearest:
        names = nearest if isinstance(nearest, str) else ", ".join(map(str, nearest))
        return f"did you mean {names}?"
    candidates = failure.details.get("candidates")
    if failure.code == "name_ambiguous" and candidates:
        return f"say which: {', '.join(map(str, candidates))}"
    return _HINTS.get(failure.code, "")


_HINTS = {
    "container_not_stopped": "`corral stop` it first, or `corral delete --force`",
    "container_already_exists": "delete it first, or choose another --name",
    "runtime_unavailable": "`corral doctor` says what is missing",
    "guest_unreachable": "`corral guests` shows which guests are up",
    "outcome_unknown": "look with `corral inspect` before doing it again",
    "unauthorized": "the key in use does not allow this",
    "cursor_too_old": "take a fresh list, and follow from its cursor",
}


@contextlib.contextmanager
def told(own_status: int) -> Iterator[None]:
    """Turns what a command may raise into its line and status; `own_status` is the command's status for a failure of Corral's own."""
    try:
        yield
    except NoBroker as failure:
        raise NoBroker(failure.message, status=NO_BROKER if own_status == FAILED else own_status) from failure
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _drop_unwritten_output()
        raise click.exceptions.Exit(OUTPUT_CLOSED) from None
    except OSError as why:
        if why.errno is None:
            raise
        _drop_unwritten_output()  # it may be that output that cannot be written: the disk behind it is full, its terminal gone
        raise Failed(f"{why.filename or 'output'}: {why.strerror}", status=own_status) from why
    except UnicodeEncodeError as why:
        raise Failed(f"{why.object!r} is not UTF-8: arguments, names, variables and paths are text", status=own_status) from why
    except Exception as failure:
        if not is_corral_error(failure):
            raise
        status = own_status
        if own_status == CORRALS_OWN:
            from corral_schemas.exits import start_failure_status

            status = start_failure_status(getattr(failure, "code", ""))
        raise Failed(str(failure), status=status, hint=hint_of(failure)) from failure


def _drop_unwritten_output() -> None:
    """Points stdout at /dev/null, so that the flush at exit does not complain once more."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
    finally:
        os.close(null)
