"""Whoever floods is held to its own share: the others' commands do not wait until the flood has been worked off."""

import zmq

from corral_broker.quotas import TOLERATED_MIN
from corral_schemas.errors import CorralError
from corral_schemas.events import Started
from corral_schemas.frames import CommandHeader, encode_command
from corral_schemas.keyfiles import ACCEPTED, AcceptedKey, accepted_file_name, text_of
from corral_schemas.queries import InfoReply, ListArgs, Nothing
from corral_testkit.wire_peers import Keys, RawClient, repeat_until
from hostile.keyed_broker import KeyedBroker, refused

FLOOD = 60_000
RATE_PER_S = 5


def counters(client: RawClient) -> dict[str, int]:
    info = client.call("info", Nothing())
    assert isinstance(info, InfoReply)
    return info.counters


def test_a_command_is_answered_long_before_another_clients_flood_is_worked_off(keyed: KeyedBroker) -> None:
    operator, other = keyed.several_keys(("op", "operator"), ("flood", "observer"))
    client = keyed.client(operator)
    before = counters(client)["taken_clients"]
    with RawClient(keyed.address, keys=other) as flooder:
        flooder.socket.sndhwm = 0
        flooder.hello()
        again = flooder.dial(zmq.DEALER, keyed.address, send_hwm=0)
        frames = encode_command(CommandHeader(id="flood", op="guests", timeout_ms=1_000), Nothing())
        for _ in range(FLOOD):
            again.send_multipart(frames)
        taken = counters(client)["taken_clients"] - before
    assert taken < FLOOD, "the flood was served first"


def test_a_key_that_asks_too_often_is_refused_and_counted_and_another_is_not(keyed: KeyedBroker) -> None:
    operator, slow = keyed.keys("op", "operator"), limited(keyed)
    client, other = keyed.client(slow), keyed.client(operator)
    repeat_until(lambda: None, lambda: refused(lambda: client.call("guests", Nothing())) == "guest_busy")
    for _ in range(10 * RATE_PER_S):
        other.call("guests", Nothing())
    found = counters(other)
    assert found["command_guest_busy"] >= 1
    assert found["answered_guest_busy"] == found["command_guest_busy"]
    assert any(line["key"] == "slow" and f"more than {RATE_PER_S} commands a second" in line["why"] for line in keyed.audit())


def test_a_key_that_floods_on_is_cut_turned_away_for_a_while_and_then_served_again(keyed: KeyedBroker) -> None:
    operator, slow = keyed.keys("op", "operator"), limited(keyed)
    client = keyed.client(operator)
    with RawClient(keyed.address, keys=slow) as flooder:
        again = flooder.dial(zmq.DEALER, keyed.address, send_hwm=0)
        for _ in range(2 * TOLERATED_MIN):
            again.send_multipart(encode_command(CommandHeader(id="flood", op="guests", timeout_ms=1_000), Nothing()))

        def read() -> None:  # else its connection's end does not come up behind the answers
            while again.poll(0):
                again.recv_multipart()

        repeat_until(read, lambda: counters(client).get("flood_turned_away", 0) >= 1)
    found = counters(client)
    assert found["flood_cut"] >= 1
    assert found["command_guest_busy"] > TOLERATED_MIN
    refusals = [line for line in keyed.audit() if line["key"] == "slow" and line["verdict"] == "refused"]
    assert len(refusals) < TOLERATED_MIN / 10, "a flood fills the audit log"
    late = keyed.client(slow)
    repeat_until(lambda: None, lambda: refused(lambda: late.call("guests", Nothing())) == "")


def test_a_guest_that_floods_with_events_is_cut_from_that_socket_alone_and_stays_registered(keyed: KeyedBroker) -> None:
    operator, slow = keyed.keys("op", "operator"), limited(keyed, "guest", "vm-1")
    client, worker = keyed.client(operator), keyed.worker(slow, "vm-1")
    worker.register()

    def publish() -> None:
        for _ in range(100):
            worker.seq += 1
            worker.publish_event("started", Started(pid=1), "c")

    repeat_until(publish, lambda: counters(client).get("flood_cut", 0) >= 1)
    found = counters(client)
    assert found["event_over_rate"] > TOLERATED_MIN
    assert found["events"] <= found["taken_events_in"] - TOLERATED_MIN
    client.send("list", ListArgs(), "vm-1")
    worker.answer(worker.command(), CorralError("runtime_failed", "x"))
    assert isinstance(client.reply("list")[1], CorralError)
    assert "guests_gone" not in found


def limited(keyed: KeyedBroker, role: str = "operator", guest: str = "") -> Keys:
    """A key whose file states a rate of its own; accepted when this returns."""
    keys = keyed.new_keys()
    key = AcceptedKey(name="slow", public=keys.public, role=role, guest=guest, rate_per_s=RATE_PER_S)
    (keyed.directory / ACCEPTED / accepted_file_name("slow", keys.public)).write_text(text_of(key))
    keyed.until_known(keys)
    return keys
