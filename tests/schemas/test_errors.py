"""errors.py: one table, and the same error on both sides of the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_schemas.errors import TABLE, CorralError, RuntimeFailedError, WireError, error, from_wire, hresult_of, to_wire

KNOWN_HRESULTS = {
    "container_already_exists": 0xC037010F,
    "container_not_found": 0xC037010E,
    "container_still_running": 0x80370105,
    "container_not_stopped": 0x80370105,
    "container_invalid_state": 0x80370105,
    "container_not_running": 0xC0370110,
    "invalid_container_id": 0x80070057,
    "process_already_exists": 0x800700B7,
    "process_not_found": 0x80070490,
    "wait_timeout": 0xC0370109,
    "deadline_exceeded": 0xC0370109,
    "unsupported_op": 0xC037010B,
    "unsupported_version": 0xC037010C,
    "bad_request": 0xC037010D,
    "unauthorized": 0x80070005,
    "runtime_failed": 0x80004005,
}
DETAILS = st.dictionaries(st.text(max_size=10), st.none() | st.booleans() | st.integers(0, 1 << 60) | st.text(max_size=10), max_size=4)


@pytest.mark.parametrize("code", TABLE)
def test_an_error_is_the_same_on_both_sides_of_the_wire(code: str) -> None:
    sent = error(code, "why", guest="vm-1")
    received = from_wire(to_wire(sent))
    assert type(received) is type(sent) is TABLE[code].kind
    assert (received.code, received.message, received.details) == (code, "why", {"guest": "vm-1"})
    assert (received.hresult, received.errno_name) == (sent.hresult, TABLE[code].errno_name)


@given(st.sampled_from(sorted(TABLE)), st.text(max_size=50), DETAILS)
def test_message_and_details_survive_the_wire(code: str, message: str, details: dict[str, object]) -> None:
    received = from_wire(to_wire(CorralError(code, message, details)))
    assert (received.code, received.message, received.details) == (code, message, details)


@pytest.mark.parametrize("code", TABLE)
def test_an_hresult_is_a_signed_32_bit_failure(code: str) -> None:
    assert -(1 << 31) <= hresult_of(code) < 0
    assert hresult_of(code) & 0xFFFFFFFF == KNOWN_HRESULTS.get(code, 0x80004005)


def test_every_published_hresult_has_its_code() -> None:
    assert KNOWN_HRESULTS.keys() <= TABLE.keys()


def test_a_code_from_a_newer_peer_is_kept_in_a_runtime_failure() -> None:
    received = from_wire(WireError(code="from_the_future", hresult=-7, message="?"))
    assert isinstance(received, RuntimeFailedError)
    assert (received.code, received.hresult, received.errno_name) == ("from_the_future", hresult_of("runtime_failed"), "EIO")


def test_every_class_of_error_is_a_corral_error_and_shows_its_code() -> None:
    for code, row in TABLE.items():
        assert issubclass(row.kind, CorralError) and row.kind is not CorralError and row.when
        assert str(error(code, "text")) == f"{code}: text"
