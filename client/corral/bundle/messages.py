"""Messages full of chunks: put together where the files are read into, made once for all guests that are sent the same."""

import asyncio
import itertools
from collections import OrderedDict
from typing import NamedTuple, cast

from corral.bundle.pack import Packed
from corral.words import new_request_id
from corral_schemas.bundles import Piece, WriteBundleArgs
from corral_schemas.frames import pack

MESSAGES_KEPT = 8
"""For guests that are a little behind the first."""
_ARRAY16, _BIN32 = b"\xdc", b"\xc6"  # msgpack's


class Made(NamedTuple):
    """A message, and the name by which the broker may be sent it only once; empty where there is but one guest."""

    args: bytes
    name: str


class Messages:
    """The messages of one bundle."""

    def __init__(self, bundle: Packed, *, shared: bool = False) -> None:
        """shared: by several guests."""
        self._bundle = bundle
        self._name = new_request_id() if shared else ""
        self._numbers = itertools.count()
        self._made: OrderedDict[tuple[int, ...], asyncio.Future[Made]] = OrderedDict()

    async def get(self, group: list[int]) -> Made:
        """Packed arguments of write_bundle. Raises OSError."""
        key = tuple(group)
        made = self._made.get(key)
        if made is None:
            name = f"{self._name}-{next(self._numbers)}" if self._name else ""
            made = self._made[key] = asyncio.ensure_future(asyncio.to_thread(self._make, group, name))
            if len(self._made) > MESSAGES_KEPT:
                self._made.popitem(last=False)
        return await asyncio.shield(made)

    def _make(self, group: list[int], name: str) -> Made:
        return Made(packed_write(self._bundle, group), name)


def packed_write(bundle: Packed, group: list[int]) -> bytes:
    """WriteBundleArgs with these chunks, packed without ever copying them. Raises OSError."""
    head = pack(WriteBundleArgs(digest=bundle.digest, pieces=[]))[:-1] + _ARRAY16 + len(group).to_bytes(2)
    sizes = [bundle.chunks.sizes[number] for number in group]
    heads = [pack(Piece(chunk=number, data=b""))[:-2] + _BIN32 + size.to_bytes(4) for number, size in zip(group, sizes, strict=True)]
    message = bytearray(len(head) + sum(map(len, heads)) + sum(sizes))
    view = memoryview(message)
    view[: len(head)] = head
    at = len(head)
    for number, size, piece in zip(group, sizes, heads, strict=True):
        view[at : at + len(piece)] = piece
        at += len(piece)
        bundle.read_into(number, view[at : at + size])
        at += size
    return cast(bytes, message)  # for whatever reads bytes
