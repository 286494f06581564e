"""The checksum is zlib's, whatever computes it: readers and writers of other machines agree on it."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from corral_schemas.checksum import crc32
from corral_worker.shim.base import checksum as of_shims


@given(st.binary(max_size=5000), st.integers(0, 2**32 - 1))
def test_it_has_zlibs_values_from_any_beginning(data: bytes, before: int) -> None:
    assert crc32(data, before) == of_shims.crc32(memoryview(data), before) == zlib.crc32(data, before)


def test_it_is_carried_from_piece_to_piece() -> None:
    whole = bytes(range(256)) * 5000
    running = 0
    for at in range(0, len(whole), 70_001):
        running = crc32(memoryview(whole)[at : at + 70_001], running)
    assert running == zlib.crc32(whole)
