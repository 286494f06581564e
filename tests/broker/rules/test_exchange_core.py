"""What passes from guests to subscribers, what a nonce gives back, and who is told of stdio subscriptions; without sockets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core_rig import Rig
from corral_broker.rules.stdio_announcements import TELL_INTERVAL_S
from corral_broker.state.subscriptions import PREFIX_BYTES_PER_GUEST_MAX, PREFIXES_PER_GUEST_MAX, StdioSubscriptions, stdio_hash
from corral_schemas import session
from corral_schemas.events import EventHeader, Started, StdioHeader
from corral_schemas.frames import encode_event, encode_stdio, unpack
from corral_schemas.limits import EVENT_BYTES_MAX, HEADER_BYTES_MAX, STDIO_CHUNK_BYTES_MAX
from corral_schemas.topics import event_topic, stdio_topic


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.register(b"s1", "vm-1", "w1")
    made.register(b"s2", "vm-10", "w10")
    made.events.clear()
    return made


def event(topic: bytes = b"", **fields: Any) -> list[bytes]:
    given = {"guest": "vm-1", "worker": "w1", "epoch": "e1", "seq": 1, "prev": 0, "time_ns": 1, "kind": "started", "container": "c"}
    header = EventHeader(**{**given, **fields})
    return encode_event(topic or event_topic(header.guest, header.kind, header.container, header.process), header, Started(pid=1))


def stdio(topic: bytes = b"", data: bytes = b"hi", **fields: Any) -> list[bytes]:
    names = {"guest": "vm-1", "worker": "w1", "container": "c", "instance": "", "process": "init", "process_instance": ""}
    header = StdioHeader(**{**names, "stream": "stdout", "offset": 0, "crc": 0, "time_ns": 1, **fields})
    return encode_stdio(topic or stdio_topic(header.guest, header.container, header.process, header.stream), header, data)


def test_an_event_of_the_registered_worker_passes_unchanged(rig: Rig) -> None:
    frames = event()
    rig.core.event(frames)
    assert rig.events == [frames]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (event(worker="w2"), "event_unregistered"),
        (event(worker="w1", guest="vm-10"), "event_unregistered"),
        (event(guest="vm-7"), "event_unregistered"),
        (event(topic=b"event/vm-10/started/c/"), "event_refused"),
        (event(topic=b"event/vm-1/exit/c/"), "event_refused"),
        (event(topic=b"nonce/x"), "event_refused"),
        (event(kind="guest_down", container=""), "event_refused"),
        (event(kind="beacon", container=""), "event_refused"),
        (event()[:2], "event_malformed"),
        ([*event(), b""], "event_malformed"),
        ([event()[0], b"\xc1", b""], "event_malformed"),
        ([event()[0], b"\x81\xa5guest\xa1\xff", b""], "event_malformed"),
        ([event()[0], bytes(HEADER_BYTES_MAX + 1), b""], "event_malformed"),
        ([*event()[:2], bytes(EVENT_BYTES_MAX + 1)], "event_malformed"),
    ],
)
def test_any_other_event_is_dropped_and_counted(rig: Rig, frames: list[bytes], reason: str) -> None:
    rig.core.event(frames)
    assert (rig.events, rig.count(reason)) == ([], 1)


def test_events_of_a_guest_that_is_down_do_not_pass(rig: Rig) -> None:
    rig.core.lost(b"s1")
    rig.events.clear()
    rig.core.event(event())
    assert rig.events == []


def test_stdio_of_the_registered_worker_passes_unchanged(rig: Rig) -> None:
    frames = stdio(data=bytes(STDIO_CHUNK_BYTES_MAX))
    rig.core.stdio(frames)
    assert rig.stdio == [frames]
    assert rig.count("stdio_bytes") == STDIO_CHUNK_BYTES_MAX


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (stdio(worker="w2"), "stdio_unregistered"),
        (stdio(topic=b"stdio/vm-10/c/init/stdout"), "stdio_refused"),
        (stdio(topic=b"stdio/vm-1/c/init/stderr"), "stdio_refused"),
        (stdio(data=bytes(STDIO_CHUNK_BYTES_MAX + 1)), "stdio_malformed"),
        (stdio()[:2], "stdio_malformed"),
        ([stdio()[0], b"\x93", b""], "stdio_malformed"),
    ],
)
def test_any_other_stdio_is_dropped_and_counted(rig: Rig, frames: list[bytes], reason: str) -> None:
    rig.core.stdio(frames)
    assert (rig.stdio, rig.count(reason)) == ([], 1)


def test_subscribing_to_a_nonce_gives_it_back_once_on_the_same_pair(rig: Rig) -> None:
    rig.core.subscription("events", b"\x01nonce/abc")
    assert (rig.events, rig.stdio) == ([[b"nonce/abc", b"", b""]], [])
    rig.core.subscription("stdio", b"\x01nonce/def")
    assert rig.stdio == [[b"nonce/def", b"", b""]]
    rig.core.subscription("events", b"\x00nonce/abc")
    assert len(rig.events) == 1


@pytest.mark.parametrize("frame", [b"", b"\x02stdio/", b"hello"])
def test_what_is_no_subscription_is_dropped_and_counted(rig: Rig, frame: bytes) -> None:
    rig.core.subscription("stdio", frame)
    assert rig.count("subscription_malformed") == 1


def told(rig: Rig, identity: bytes) -> list[list[bytes] | None]:
    """The stdio prefixes of each heartbeat_ack this session was sent."""
    acks = [frames[2] for frames in rig.to_workers if frames[:2] == [identity, session.HEARTBEAT_ACK]]
    return [unpack(session.HeartbeatAck, ack).stdio_prefixes for ack in acks]


def subscribe(rig: Rig, *prefixes: bytes, mark: bytes = b"\x01") -> None:
    for prefix in prefixes:
        rig.core.subscription("stdio", mark + prefix)
    rig.core.end()


def test_only_the_guests_that_a_prefix_matches_are_told(rig: Rig) -> None:
    subscribe(rig, b"stdio/vm-1/")
    assert (told(rig, b"s1"), told(rig, b"s2")) == ([[b"stdio/vm-1/"]], [])
    rig.pass_time(TELL_INTERVAL_S)
    subscribe(rig, b"stdio/")
    assert told(rig, b"s1")[-1] == [b"stdio/", b"stdio/vm-1/"]
    assert told(rig, b"s2") == [[b"stdio/"]]
    rig.pass_time(TELL_INTERVAL_S)
    subscribe(rig, b"stdio/", mark=b"\x00")
    assert (told(rig, b"s1")[-1], told(rig, b"s2")[-1]) == ([b"stdio/vm-1/"], [])


@pytest.mark.parametrize("prefix", [b"", b"st", b"stdio/", b"stdio/vm-1"])
def test_a_prefix_that_names_no_whole_guest_is_told_to_all_it_matches(rig: Rig, prefix: bytes) -> None:
    subscribe(rig, prefix)
    told_prefix = prefix if prefix.startswith(b"stdio/") else b"stdio/"
    assert (told(rig, b"s1"), told(rig, b"s2")) == ([[told_prefix]], [[told_prefix]])


@pytest.mark.parametrize("prefix", [b"event/", b"stdio/vm-2/", b"stdio/\xff/", b"x"])
def test_a_prefix_that_matches_no_guest_is_told_to_none(rig: Rig, prefix: bytes) -> None:
    subscribe(rig, prefix)
    assert (told(rig, b"s1"), told(rig, b"s2")) == ([], [])


def test_a_burst_of_subscriptions_is_told_once(rig: Rig) -> None:
    subscribe(rig, *(b"stdio/vm-1/c%d/" % number for number in range(100)))
    assert len(told(rig, b"s1")) == 1


def test_a_subscription_taken_back_in_the_same_turn_is_not_told(rig: Rig) -> None:
    rig.core.subscription("stdio", b"\x01stdio/vm-1/")
    subscribe(rig, b"stdio/vm-1/", mark=b"\x00")
    assert told(rig, b"s1") == []


def test_changes_that_go_on_and_on_are_told_now_and_then_and_the_last_of_them_is(rig: Rig) -> None:
    for number in range(1_000):
        subscribe(rig, b"stdio/vm-1/c%d/" % (number % 2), mark=b"\x01" if number % 4 < 2 else b"\x00")
        rig.pass_time(TELL_INTERVAL_S / 100)
    assert len(told(rig, b"s1")) <= 11
    subscribe(rig, b"stdio/vm-1/last/")
    rig.pass_time(TELL_INTERVAL_S)
    assert told(rig, b"s1")[-1] == [b"stdio/vm-1/last/"]


def test_a_heartbeat_with_another_hash_gets_the_full_set(rig: Rig) -> None:
    subscribe(rig, b"stdio/vm-1/b/", b"stdio/vm-1/a/")
    prefixes = [b"stdio/vm-1/a/", b"stdio/vm-1/b/"]
    assert rig.heartbeat(b"s1", stdio_hash=0).stdio_prefixes == prefixes
    assert rig.heartbeat(b"s1", stdio_hash=stdio_hash(prefixes)).stdio_prefixes is None
    assert rig.heartbeat(b"s2", stdio_hash=5).stdio_prefixes == []


def test_registering_states_the_subscriptions_there_are(rig: Rig) -> None:
    subscribe(rig, b"stdio/vm-2/")
    kind, body = rig.register(b"s3", "vm-2")
    assert kind == session.REGISTERED
    assert unpack(session.Registered, body).stdio_prefixes == [b"stdio/vm-2/"]
    subscribe(rig, b"stdio/vm-2/")
    assert told(rig, b"s3") == []


def test_very_many_prefixes_of_one_guest_are_told_as_the_whole_guest() -> None:
    subscriptions = StdioSubscriptions()
    for number in range(PREFIXES_PER_GUEST_MAX + 1):
        assert subscriptions.change(b"stdio/vm-1/c%d/" % number, True) == "vm-1"
    assert subscriptions.of("vm-1") == [b"stdio/vm-1/"]
    subscriptions.change(b"stdio/vm-1/c0/", False)
    assert len(subscriptions.of("vm-1")) == PREFIXES_PER_GUEST_MAX


def test_very_long_prefixes_of_one_guest_are_told_as_the_whole_guest() -> None:
    subscriptions = StdioSubscriptions()
    for number in range(PREFIX_BYTES_PER_GUEST_MAX // 500 + 1):
        subscriptions.change(b"stdio/vm-1/%0500d" % number, True)
    assert subscriptions.of("vm-1") == [b"stdio/vm-1/"]


NAMES = st.text(alphabet="ab1-._+", min_size=1, max_size=4)


@given(NAMES, NAMES, st.integers(0, 40))
def test_a_guest_is_asked_for_stdio_just_when_a_topic_of_its_can_match(guest: str, other: str, cut: int) -> None:
    prefix = stdio_topic(other, "c", "p", "stdout")[:cut]
    can_match = b"stdio/" + guest.encode() + b"/"
    subscriptions = StdioSubscriptions()
    subscriptions.change(prefix, True)
    assert bool(subscriptions.of(guest)) == (prefix[: len(can_match)] == can_match[: len(prefix)])


def test_a_guest_found_gone_while_it_is_told_goes_down(rig: Rig) -> None:
    rig.gone.add(b"s1")
    subscribe(rig, b"stdio/")
    assert not rig.core.registry.guests["vm-1"].up
    assert told(rig, b"s2") == [[b"stdio/"]]
