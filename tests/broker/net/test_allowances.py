"""How often a key may connect, and how much it may subscribe to."""

from corral_broker.access.keyring import Grant
from corral_broker.access.subscribers import SUBSCRIBED_BYTES_PER_KEY_MAX, Subscribers
from corral_broker.net.handshakes import (
    ADDRESSES_MAX,
    PENDING_MAX,
    PENDING_PER_ADDRESS_MAX,
    PER_GUEST_KEY,
    STRANGERS,
    STRANGERS_PER_ADDRESS,
    Handshakes,
    PendingHandshakes,
)

GUEST = Grant("vm-1", "f", "guest", "vm-1", None, float("inf"), 0, 0)
OPERATOR = Grant("op", "f", "operator", "", None, float("inf"), 0, 0)


def let_in(handshakes: Handshakes, times: int, now_s: float, address: str = "a", grant: Grant | None = None) -> int:
    key = grant.name if grant is not None else "unknown"
    return sum(not handshakes.refusal(key, address, grant, now_s) for _ in range(times))


def test_strangers_from_one_address_have_their_burst_and_then_so_many_a_second() -> None:
    handshakes = Handshakes()
    assert let_in(handshakes, 1_000, 100.0) == STRANGERS_PER_ADDRESS.burst
    assert let_in(handshakes, 1_000, 101.0) == STRANGERS_PER_ADDRESS.per_s
    assert let_in(handshakes, 10, 101.0, "b") == 10, "another address has its own"


def test_strangers_from_everywhere_share_one_allowance_and_take_nothing_from_accepted_keys() -> None:
    handshakes = Handshakes()
    assert sum(let_in(handshakes, 1, 100.0, f"address {number}") for number in range(1_000)) == STRANGERS.burst
    assert let_in(handshakes, 1_000, 100.0, grant=GUEST) == PER_GUEST_KEY.burst
    assert let_in(handshakes, 1_000, 100.0, grant=OPERATOR) == 1_000


def test_addresses_without_number_are_not_remembered_without_number() -> None:
    handshakes = Handshakes()
    for number in range(2 * ADDRESSES_MAX):
        handshakes.refusal("unknown", f"address {number}", None, 100.0)
    assert let_in(handshakes, 1, 100.0, "one more") == 0
    assert let_in(handshakes, 1, 200.0, "one more") == 1, "later there is room again"


def test_a_key_has_too_many_subscriptions_over_all_its_connections_together() -> None:
    subscribers = Subscribers()
    prefix = b"\x01" + b"x" * 255
    half = SUBSCRIBED_BYTES_PER_KEY_MAX // 256 // 2
    assert not any(subscribers.changed("7", "k", prefix) for _ in range(half))
    assert not any(subscribers.changed("8", "k", prefix) for _ in range(half))
    assert not subscribers.changed("9", "other", prefix)
    assert subscribers.changed("8", "k", prefix)
    assert not subscribers.changed("8", "k", b"\x00" + b"x" * 255), "an end gives it back"
    subscribers.closed("7")
    assert not any(subscribers.changed("8", "k", prefix) for _ in range(half))


def test_a_descriptor_that_became_another_keys_begins_at_nothing() -> None:
    subscribers = Subscribers()
    for _ in range(SUBSCRIBED_BYTES_PER_KEY_MAX // 256):
        subscribers.changed("7", "k", b"\x01" + b"x" * 255)
    assert not subscribers.changed("7", "other", b"\x01x")
    assert not subscribers.changed("8", "k", b"\x01x")


def test_the_oldest_pending_handshakes_of_an_address_make_room_and_those_that_are_through_count_no_more() -> None:
    pending = PendingHandshakes()
    for number in range(PENDING_PER_ADDRESS_MAX):
        pending.begun(number, "10.0.0.1")
    pending.begun(9_000, "10.0.0.2")
    assert pending.take_stalled() == []
    pending.begun(9_001, "10.0.0.1")
    pending.begun(9_002, "10.0.0.1")
    pending.ended(1)
    assert pending.take_stalled() == [(0, "10.0.0.1")]
    assert pending.take_stalled() == []
    assert len(pending) == PENDING_PER_ADDRESS_MAX + 1


def test_the_oldest_pending_handshakes_of_all_make_room_when_many_addresses_stall() -> None:
    pending = PendingHandshakes()
    for number in range(PENDING_MAX + 2):
        pending.begun(number, f"10.0.{number // 100}.1")
    assert pending.take_stalled() == [(0, "10.0.0.1"), (1, "10.0.0.1")]
    assert len(pending) == PENDING_MAX


def test_a_descriptor_that_is_used_again_is_the_new_connections() -> None:
    pending = PendingHandshakes()
    pending.begun(7, "10.0.0.1")
    pending.begun(7, "10.0.0.2")
    pending.ended(7)
    pending.ended(7)
    assert len(pending) == 0
