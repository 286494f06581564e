"""Guests that left for good, taken off the lists of all brokers."""

import asyncio
from collections.abc import Iterable

from corral.connection import Connection
from corral_schemas.limits import FORGET_GUESTS_MAX
from corral_schemas.queries import ForgetGuestsArgs, ForgetGuestsReply

BROKER_S = 5.0
"""A broker that does not answer for so long is told of, though others have."""


async def forget_guests(connection: Connection, guests: Iterable[str]) -> list[str]:
    """See AsyncClient.forget_guests."""
    names = list(dict.fromkeys(guests))
    forgotten: set[str] = set()
    for start in range(0, len(names), FORGET_GUESTS_MAX):
        args = ForgetGuestsArgs(guests=names[start : start + FORGET_GUESTS_MAX])
        replies = await asyncio.gather(*(_ask(connection, link, args) for link in range(len(connection.addresses))), return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
            forgotten.update(reply.forgotten)
    return [name for name in names if name in forgotten]


async def _ask(connection: Connection, link: int, args: ForgetGuestsArgs) -> ForgetGuestsReply:
    timeout_s = min(BROKER_S, connection.timeout_s)
    return await connection.ask("", "forget_guests", args, ForgetGuestsReply, timeout_s=timeout_s, link=link)
