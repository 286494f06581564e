"""names.py: which names are legal, and instances that sort by their time."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_schemas.errors import CorralError
from corral_schemas.limits import GUEST_CHARS_MAX, NAME_CHARS_MAX, REQUEST_ID_CHARS_MAX
from corral_schemas.names import (
    INIT,
    check_container_id,
    check_guest_name,
    check_process_id,
    check_request_id,
    is_instance,
    new_instance,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-"
TIMES_NS = st.integers(0, (1 << 48) * 1_000_000 - 1)
RANDOMNESS = st.binary(min_size=10, max_size=10)
BAD_NAMES = ["", ".", "..", "a/b", "a b", "ä", "a\x00", "a\n b", "*", "web\n"]


@given(st.text(alphabet=ALPHABET, min_size=1, max_size=NAME_CHARS_MAX).filter(lambda name: name not in (".", "..")))
def test_every_name_of_the_alphabet_is_legal(name: str) -> None:
    check_container_id(name)
    check_process_id(name)
    if len(name) <= GUEST_CHARS_MAX:
        check_guest_name(name)


@pytest.mark.parametrize("name", [*BAD_NAMES, "x" * (NAME_CHARS_MAX + 1)])
@pytest.mark.parametrize("check", [check_container_id, check_process_id])
def test_an_illegal_container_or_process_id_is_refused(check: Callable[[str], None], name: str) -> None:
    with pytest.raises(CorralError) as caught:
        check(name)
    assert caught.value.code == "invalid_container_id"
    assert caught.value.details == {"id": name[:80]}


@pytest.mark.parametrize("name", [*BAD_NAMES, "x" * (GUEST_CHARS_MAX + 1)])
def test_an_illegal_guest_name_is_refused(name: str) -> None:
    with pytest.raises(CorralError) as caught:
        check_guest_name(name)
    assert caught.value.code == "bad_request"


@given(st.text(max_size=200))
def test_whatever_is_legal_can_stand_in_a_topic(name: str) -> None:
    try:
        check_container_id(name.rstrip("\n"))
    except CorralError as why:
        assert why.code == "invalid_container_id"
    else:
        assert "/" not in name and name.isascii()


@pytest.mark.parametrize("request_id", ["a", "x" * REQUEST_ID_CHARS_MAX, "job 12/step 3"])
def test_a_printable_request_id_is_legal(request_id: str) -> None:
    check_request_id(request_id)


@pytest.mark.parametrize("request_id", ["", "x" * (REQUEST_ID_CHARS_MAX + 1), "a\n", "ä", "a\x00"])
def test_an_unprintable_empty_or_long_request_id_is_refused(request_id: str) -> None:
    with pytest.raises(CorralError) as caught:
        check_request_id(request_id)
    assert caught.value.code == "bad_request"


@given(TIMES_NS, RANDOMNESS)
def test_an_instance_is_26_digits_and_a_legal_container_id(time_ns: int, randomness: bytes) -> None:
    instance = new_instance(time_ns, randomness)
    assert is_instance(instance)
    check_container_id(instance)


@given(TIMES_NS, TIMES_NS, RANDOMNESS, RANDOMNESS)
def test_instances_of_different_milliseconds_sort_by_time(one_ns: int, other_ns: int, one: bytes, other: bytes) -> None:
    if one_ns // 1_000_000 < other_ns // 1_000_000:
        assert new_instance(one_ns, one) < new_instance(other_ns, other)


@given(TIMES_NS, RANDOMNESS, RANDOMNESS)
def test_instances_of_one_millisecond_differ_by_their_randomness(time_ns: int, one: bytes, other: bytes) -> None:
    assert (new_instance(time_ns, one) == new_instance(time_ns, other)) == (one == other)


@pytest.mark.parametrize(
    "text",
    ["", INIT, "0" * 25, "0" * 27, "i" * 26, "A" * 26, "0" * 26 + "\n"],
)
def test_other_text_is_not_an_instance(text: str) -> None:
    assert not is_instance(text)


def test_an_instance_has_the_ulid_layout() -> None:
    assert new_instance(1_000_000, bytes(9) + b"\x01") == "00000000010000000000000001"
