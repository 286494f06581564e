"""What reaches an open port from who knows where: bytes that are no ZMTP, ZMTP without keys, the wrong keys, too much of it."""

import select
import socket
import struct
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_broker.net.handshakes import PENDING_PER_ADDRESS_MAX
from corral_broker.net.peers import SILENT_S
from corral_schemas.queries import InfoReply, Nothing
from corral_testkit.wire_peers import Keys, Peer, RawClient, Subscriber, repeat_until
from hostile.keyed_broker import KeyedBroker

SOCKETS = ("clients", "workers", "events_in", "events_out", "stdio_in", "stdio_out")
GREETING = b"\xff" + b"\x00" * 8 + b"\x7f" + b"\x03\x00"
NULL_GREETING = GREETING + b"NULL".ljust(20, b"\x00") + b"\x00" + b"\x00" * 31
CURVE_GREETING = GREETING + b"CURVE".ljust(20, b"\x00") + b"\x00" + b"\x00" * 31
OPENINGS = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 500,
    "zeros": b"\x00" * 4096,
    "ones": b"\xff" * 4096,
    "old_zmtp": b"\x01\x00" + b"\x05\x00hello" * 50,
    "plain": GREETING + b"PLAIN".ljust(20, b"\x00") + b"\x00" + b"\x00" * 31 + b"\x04\x10\x05HELLO\x03bob\x03pwd",
    "null": NULL_GREETING + b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER" + b"\x00\x05hello",
    "curve_hello_of_nonsense": CURVE_GREETING + b"\x04\xc8\x05HELLO" + b"\x01\x00" + b"\x55" * 192,
    "curve_initiate_first": CURVE_GREETING + b"\x06" + struct.pack(">Q", 9 + 300) + b"\x08INITIATE" + b"\x77" * 300,
    "curve_endless_command": CURVE_GREETING + b"\x06" + struct.pack(">Q", 1 << 62) + b"\x05HELLO",
}


@pytest.fixture
def operator(keyed: KeyedBroker) -> Keys:
    return keyed.keys("op", "operator")


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def throw(port: int, content: bytes) -> bytes:
    """Sends it, and reads until the broker closes or is silent for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(0.15)
        got = b""
        try:
            connection.sendall(content)
            while chunk := connection.recv(4096):
                got += chunk
        except OSError:  # reset, or silent: either is fine
            return got
        return got


def test_no_garbage_on_any_port_disturbs_anybody(keyed: KeyedBroker, operator: Keys) -> None:
    client = keyed.client(operator)
    for name in SOCKETS:
        port = port_of(keyed.endpoint(name))
        for content in OPENINGS.values():
            throw(port, content)
        client.call("guests", Nothing())
    assert keyed.info(operator).counters.get("asked_guests", 0) >= len(SOCKETS)


def test_random_openings_on_any_port_disturb_nobody(keyed: KeyedBroker, operator: Keys) -> None:
    client = keyed.client(operator)
    ports = [port_of(keyed.endpoint(name)) for name in SOCKETS]

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(ports), st.sampled_from([b"", GREETING, NULL_GREETING, CURVE_GREETING]), st.binary(max_size=600))
    def attempt(port: int, before: bytes, content: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(before + content)

    attempt()
    client.call("guests", Nothing())


@pytest.mark.parametrize("name", SOCKETS)
def test_a_peer_without_keys_or_with_the_wrong_server_key_gets_through_to_nothing(keyed: KeyedBroker, operator: Keys, name: str) -> None:
    wrong_server = Keys(operator.public, operator.secret, keyed.new_keys().public)
    stolen_public = Keys(operator.public, keyed.new_keys().secret, operator.server)
    for keys in (None, wrong_server, stolen_public):
        with Peer(keys=keys) as peer, peer.dial(zmq.DEALER, keyed.endpoint(name)) as opened:
            monitor = opened.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            opened.send_multipart([b"", b""])
            assert not monitor.poll(250), "a handshake without the right keys has succeeded"
            opened.disable_monitor()
            monitor.close(0)
    keyed.client(operator).call("guests", Nothing())


def test_an_address_that_opens_too_many_connections_loses_those_beyond_its_share() -> None:
    with tempfile.TemporaryDirectory(prefix="crl") as directory, KeyedBroker(Path(directory), "--connections-per-address", "30") as keyed:
        operator = keyed.keys("op", "operator")
        client = keyed.client(operator)
        client.call("guests", Nothing())
        with ExitStack() as opened:
            port = port_of(keyed.address)
            many = [opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(60)]
            repeat_until(lambda: None, lambda: sum(_is_closed(one) for one in many) >= 25)
            info = client.call("info", Nothing())  # by the connection that was there before
            assert isinstance(info, InfoReply)
            assert info.counters["connection_cut"] >= 25


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.001)
    try:
        while connection.recv(4096):
            continue
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_a_stranger_that_sends_more_than_a_registration_needs_is_cut(keyed: KeyedBroker, operator: Keys) -> None:
    before = keyed.rss_bytes()
    with Peer(keys=keyed.new_keys()) as peer, peer.dial(zmq.DEALER, keyed.endpoint("workers")) as opened:
        end_s = time.monotonic() + 15
        frame = b"x" * 65_536
        while not keyed.count(operator, "stranger_cut") and time.monotonic() < end_s:
            for _ in range(50):
                with suppress(zmq.Again):  # it is being cut, and dials again
                    opened.send_multipart([b"register", frame], zmq.NOBLOCK)
    assert keyed.count(operator, "stranger_cut") >= 1
    assert keyed.rss_bytes() - before < 300 << 20


def test_a_peer_that_connects_and_says_nothing_is_cut(keyed: KeyedBroker, operator: Keys) -> None:
    with Peer(keys=keyed.new_keys()) as peer, peer.context.socket(zmq.DEALER) as opened:
        opened.linger = 0
        opened.routing_id = b"\x00claim"
        opened.curve_publickey, opened.curve_secretkey, opened.curve_serverkey = (key.encode() for key in peer.keys or ())
        monitor = opened.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        opened.connect(keyed.address)
        assert monitor.poll(int(1000 * (SILENT_S + 5))), "it still stands"
        opened.disable_monitor()
        monitor.close(0)
    assert keyed.count(operator, "silent_cut") >= 1


def test_a_reader_that_subscribes_without_end_loses_its_connection_and_may_begin_anew(keyed: KeyedBroker, operator: Keys) -> None:
    with Peer(keys=operator) as peer, peer.dial(zmq.SUB, keyed.endpoint("events_out")) as opened:
        monitor = opened.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        number = 0
        while not monitor.poll(0) and number < 10_000:
            for _ in range(500):  # as many as its socket takes at once
                number += 1
                opened.subscribe(f"event/{number}/".ljust(400, "x"))
                opened.poll(0)  # it hears only now that more can be sent
            keyed.client(operator).call("guests", Nothing())
        assert monitor.poll(5_000), "it still stands"
        opened.disable_monitor()
        monitor.close(0)
    assert keyed.count(operator, "subscribers_cut") >= 1
    keyed.subscriber(operator, b"event/").close()


@pytest.mark.parametrize("name", ["events_out", "stdio_out"])
def test_half_a_message_of_one_subscriber_swallows_no_subscription_of_another(keyed: KeyedBroker, operator: Keys, name: str) -> None:
    endpoint = keyed.endpoint(name)
    with Peer(keys=keyed.keys("obs", "observer")) as peer, peer.dial(zmq.XSUB, endpoint) as one, peer.dial(zmq.XSUB, endpoint) as other:
        for socket in (one, other):
            for prefix in (b"none", b"nonce/" + str(id(socket)).encode()):
                socket.send(b"\x01" + prefix)
            assert socket.recv_multipart()[0].startswith(b"nonce/")
        # The second part ends a subscription that the other one still has: libzmq hands up the first part alone, as one to be continued.
        one.send_multipart([b"\x02half", b"\x00none"])
        client = keyed.client(operator)
        repeat_until(lambda: None, lambda: "subscription_malformed" in counters_of(client))
        Subscriber(endpoint, b"event/", keys=operator).close()  # live at once, or PeerTimeoutError


def counters_of(client: RawClient) -> dict[str, int]:
    info = client.call("info", Nothing())
    assert isinstance(info, InfoReply)
    return info.counters


def test_bytes_recorded_on_the_way_and_sent_once_more_get_nowhere(keyed: KeyedBroker, operator: Keys) -> None:
    port, recorded = port_of(keyed.address), bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward() -> None:
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                ends = {near: far, far: near}
                while ready := select.select(list(ends), [], [], 5.0)[0]:
                    for end in ready:
                        if not (chunk := end.recv(65_536)):
                            return
                        if end is near:
                            recorded.extend(chunk)
                        ends[end].sendall(chunk)

        thread = threading.Thread(target=forward)
        thread.start()
        with RawClient(f"tcp://127.0.0.1:{listener.getsockname()[1]}", keys=operator) as client:
            client.call("guests", Nothing())
        thread.join(10)
    assert len(recorded) > 500, "greeting, handshake and a command were recorded"
    client = keyed.client(operator)
    before = counters_of(client)
    throw(port, bytes(recorded))
    after = counters_of(client)
    assert after.get("asked_guests") == before.get("asked_guests")
    assert after["handshakes"] == before["handshakes"]


@pytest.mark.parametrize("greeting", [b"", CURVE_GREETING], ids=["silent", "greeting"])
def test_of_a_thousand_half_open_connections_the_oldest_are_cut_and_a_client_is_served_meanwhile(
    keyed: KeyedBroker, operator: Keys, greeting: bytes
) -> None:
    port, asker = port_of(keyed.endpoint("clients")), keyed.client(operator)
    with ExitStack() as opened:
        stalled = [opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(1_000)]
        for one in stalled:
            one.sendall(greeting)
        late = keyed.client(operator)
        late.call("guests", Nothing())
        cut_min = len(stalled) - PENDING_PER_ADDRESS_MAX
        repeat_until(lambda: None, lambda: counters_of(asker).get("handshake_pending_cut", 0) >= cut_min)
        assert counters_of(asker).get("handshake_pending_cut", 0) <= cut_min + 10, "those that came later, and the client, were left alone"
        assert is_closed(stalled[0])
        late.call("guests", Nothing())


def is_closed(connection: socket.socket) -> bool:
    with suppress(ConnectionResetError):
        while connection.recv(4096):
            continue
    return True
