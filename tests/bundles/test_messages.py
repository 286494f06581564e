"""Messages full of chunks: put together in place, and one for all guests that are sent the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import Packed, pack_bundle
from corral.bundle.messages import MESSAGES_KEPT, Messages, packed_write
from corral_schemas.bundles import Piece, WriteBundleArgs
from corral_schemas.frames import unpack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, size in enumerate((1, 5, 70_000, (1 << 20) + 3)):
        (tmp_path / f"file-{number}").write_bytes(random.Random(number).randbytes(size))
    return tmp_path


@pytest.fixture
def bundle(tree: Path) -> Iterator[Packed]:
    with pack_bundle(tree) as packed:
        yield packed


def every(bundle: Packed) -> list[int]:
    return list(range(len(bundle.chunks.digests)))


def test_a_message_put_together_in_place_says_what_packing_its_parts_would(bundle: Packed) -> None:
    for group in ([0], every(bundle), every(bundle)[::-1]):
        pieces = [Piece(chunk=number, data=bundle.read(number)) for number in group]
        assert unpack(WriteBundleArgs, packed_write(bundle, group)) == WriteBundleArgs(digest=bundle.digest, pieces=pieces)


def test_of_a_file_that_has_become_shorter_the_rest_is_zeros_which_the_guest_refuses(bundle: Packed, tree: Path) -> None:
    os.truncate(tree / "file-2", 1_000)
    sent = unpack(WriteBundleArgs, packed_write(bundle, every(bundle)))
    assert [len(piece.data) for piece in sent.pieces] == bundle.chunks.sizes
    assert not bundle.is_unchanged(every(bundle))


def test_guests_that_are_sent_the_same_share_a_message_and_its_name_and_others_do_not(bundle: Packed) -> None:
    async def made() -> None:
        messages = Messages(bundle, shared=True)
        first, again = await messages.get([0, 1]), await messages.get([0, 1])
        assert first.args is again.args and first.name == again.name != ""
        names = {(await messages.get(group)).name for group in ([0, 1], [0, 2], [0, 1, 2], [0, 2, 1])}
        assert len(names) == 4
        assert (await Messages(bundle, shared=True).get([0, 1])).name not in names
        assert (await Messages(bundle).get([0, 1])).name == ""
        for number in range(MESSAGES_KEPT):
            await messages.get([number % 4] * (number + 5))
        assert (await messages.get([0, 1])).name != first.name, "one that is made anew is another one to brokers"

    asyncio.run(made())
