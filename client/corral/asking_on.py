"""Long polls that are asked again for as long as guest and broker stand: silence is no failure."""

from typing import TypeVar

import msgspec

from corral.connection import Connection
from corral_schemas.base import Message
from corral_schemas.errors import CorralError
from corral_schemas.queries import WaitArgs
from corral_schemas.stdio import ReadStdioArgs

R = TypeVar("R", bound=Message)
Poll = TypeVar("Poll", ReadStdioArgs, WaitArgs)

_FIELDS: dict[type[Message], str] = {ReadStdioArgs: "wait_ms", WaitArgs: "timeout_ms"}


async def ask_on(connection: Connection, guest: str, op: str, args: Poll, reply: type[R], *, patience_s: float) -> R:
    """Return the answer to a long poll, or raise the error that says which part is gone.

    A poll without an answer by its deadline, or that a busy guest never let in, says nothing of the process. After the first the same
    question without a wait shows whether anybody is there; a busy guest is there, and is asked on. Raises CorralError.
    """
    field = _FIELDS[type(args)]
    poll: Poll = args
    while True:
        wait_ms: int = getattr(poll, field)
        try:
            return await connection.ask(guest, op, poll, reply, timeout_s=wait_ms / 1000 + connection.timeout_s, patience_s=patience_s)
        except CorralError as why:
            if why.code == "guest_busy":
                poll = args
            elif why.code == "deadline_exceeded" and wait_ms:
                poll = msgspec.structs.replace(args, **{field: 0})
            else:
                raise
