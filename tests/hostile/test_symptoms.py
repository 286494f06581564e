"""What somebody sees whose client has the wrong keys: each row of PROTOCOL.md's table of symptoms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import zmq

from corral.cli.keys import key_directory
from corral_schemas.errors import CorralError
from corral_schemas.queries import Nothing
from corral_testkit.shim_driver import wait_until
from corral_testkit.wire_peers import Keys, Peer, PeerTimeoutError, RawClient
from hostile.keyed_broker import KeyedBroker

SILENCE_S = 0.5


def is_silent(address: str, keys: Keys | None) -> bool:
    """`hello` is not answered."""
    with RawClient(address, timeout_s=SILENCE_S, keys=keys) as client:
        try:
            client.hello()
        except PeerTimeoutError:
            return True
        return False


def hears_echo(endpoint: str, keys: Keys | None) -> bool:
    with Peer(keys=keys) as peer:
        socket = peer.dial(zmq.SUB, endpoint)
        nonce = f"nonce/{keys and keys.public}"
        socket.subscribe(nonce)
        return bool(socket.poll(int(SILENCE_S * 1000))) and socket.recv_multipart() == [nonce.encode(), b"", b""]


def code(ask: Callable[[], object]) -> str:
    with pytest.raises(CorralError) as failure:
        ask()
    return failure.value.code


def test_without_keys_with_another_server_key_or_with_a_revoked_key_hello_is_never_answered(keyed: KeyedBroker) -> None:
    good = keyed.keys("op", "operator")
    assert not is_silent(keyed.address, good)
    assert is_silent(keyed.address, None)
    assert is_silent(keyed.address, Keys(good.public, good.secret, keyed.new_keys().public))
    key_directory.revoke(keyed.directory, "op")
    wait_until(lambda: is_silent(keyed.address, good), "the revoked key is out")


def test_an_unknown_key_gets_hello_and_nothing_else(keyed: KeyedBroker) -> None:
    client = keyed.client(keyed.new_keys())
    assert client.hello().protocol == 1
    assert code(lambda: client.call("guests", Nothing())) == "unauthorized"


def test_a_subscriber_without_keys_or_without_the_role_hears_no_echo(keyed: KeyedBroker) -> None:
    observer, guest = keyed.several_keys(("ob", "observer"), ("g1", "guest", "g1"))
    events = keyed.endpoint("events_out")
    assert hears_echo(events, observer)
    for keys in (None, guest, keyed.new_keys()):
        assert not hears_echo(events, keys)
