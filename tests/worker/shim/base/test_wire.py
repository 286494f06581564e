"""Framing: any messages, cut anywhere, come out as they went in; anything else is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_worker.shim.base.wire import BLOB_BYTES_MAX, JSON_BYTES_MAX, FrameReader, WireError, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.tuples(st.dictionaries(st.text(), JSON, max_size=4), st.binary(max_size=300)), max_size=6)


@given(messages=MESSAGES, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(
    messages: list[tuple[dict[str, object], bytes]], cuts: list[int]
) -> None:
    stream = b"".join(encode(message, blob) for message, blob in messages)
    reader = FrameReader()
    out = []
    position = turn = 0
    while position < len(stream):
        length = cuts[turn % len(cuts)]
        out += reader.feed(stream[position : position + length])
        position, turn = position + length, turn + 1
    assert out == messages
    assert reader.pending_bytes == 0


@given(noise=st.binary(max_size=400))
def test_noise_is_refused_or_waits_for_more_but_never_anything_else(noise: bytes) -> None:
    reader = FrameReader()
    try:
        for message, blob in reader.feed(noise):
            assert isinstance(message, dict)
            assert isinstance(blob, bytes)
    except WireError:
        return
    assert reader.pending_bytes <= len(noise)


@pytest.mark.parametrize("lengths", [(JSON_BYTES_MAX + 1, 0), (2, BLOB_BYTES_MAX + 1), (2**32 - 1, 2**32 - 1)])
def test_a_frame_beyond_the_limits_is_refused_from_its_lengths_alone(lengths: tuple[int, int]) -> None:
    with pytest.raises(WireError):
        FrameReader().feed(struct.pack("!II", *lengths))


@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b"\xff\xff", b'"x"', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        FrameReader().feed(struct.pack("!II", len(body), 0) + body)


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(WireError):
        encode({}, bytes(BLOB_BYTES_MAX + 1))
    with pytest.raises(WireError):
        encode({"x": "y" * JSON_BYTES_MAX})
